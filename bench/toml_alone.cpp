/*
 * toml++ alone, as anyone would use it: reads a file from the page cache and parses it, N times. What the catalog is
 * compared with. Usage: toml_alone FILE N
 */
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    std::vector<long long> times;
    for (long i = 0; i < std::strtol(argv[2], nullptr, 10); i++) {
        auto start = std::chrono::steady_clock::now();
        std::ifstream file(argv[1], std::ios::binary);
        std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
        try {
            toml::table table = toml::parse(text);
            if (table.empty())
                return 1;
        } catch (const toml::parse_error &error) {
            std::fprintf(stderr, "%s\n", error.what());
            return 1;
        }
        auto end = std::chrono::steady_clock::now();
        times.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(end - start).count());
    }
    if (times.empty())
        return 2;
    std::sort(times.begin(), times.end());
    std::printf("parse %lld %lld %zu\n", times[times.size() / 2], times[(times.size() - 1) * 99 / 100],
                times.size());
    return 0;
}
