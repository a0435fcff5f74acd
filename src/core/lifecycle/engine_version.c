/*
 * The version of an engine; see engine_version.h. Source of its forms: llama.cpp common/arg.cpp, --version prints
 * "version: BUILD (COMMIT)", and since its first releases "version: RELEASE (build BUILD, commit COMMIT)".
 */
#include "core/lifecycle/engine_version.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "base/strbuf.h"
#include "core/lifecycle/engine_options.h"
#include "core/lifecycle/plan.h"

#define OUTPUT_MAX 65536

bool engine_version_parse(const char *output, struct engine_version *ret_version)
{
    static const char label[] = "version: ";
    for (const char *line = output; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, label, sizeof label - 1) != 0)
            continue;
        const char *text = line + sizeof label - 1;
        size_t n = strcspn(text, "\r\n");
        struct engine_version version = { .build = 0 };
        if (n == 0 || n >= sizeof version.text)
            return false;
        for (size_t i = 0; i < n; i++)
            version.text[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
        const char *build = strstr(version.text, "(build ");
        build = build ? build + strlen("(build ") : version.text;
        size_t n_digits = strspn(build, "0123456789");
        if (build[n_digits] == '.' || !parse_int64_n(build, n_digits, 0, INT32_MAX, &version.build))
            version.build = 0;
        *ret_version = version;
        return true;
    }
    return false;
}

static bool is_named_llama_server(const char *program)
{
    const char *slash = strrchr(program, '/');
    return strncmp(slash ? slash + 1 : program, "llama-server", strlen("llama-server")) == 0;
}

/* The file has the binary's identity in its first line and the version, in the engine's own form, behind it. */
void engine_version_read(const struct pool_backend *backend, const char *program,
                         const char *const *environment, const char *state_dir,
                         struct engine_version *ret_version)
{
    struct stat st;
    *ret_version = (struct engine_version){ .text = "unknown" };
    if (stat(program, &st) < 0)
        return;
    snprintf(ret_version->text, sizeof ret_version->text, "binary %jd.%jd", (intmax_t)st.st_size,
             (intmax_t)st.st_mtim.tv_sec);
    if (!engine_is_llama_server(backend) || !is_named_llama_server(program))
        return;
    CLEANUP(strbuf_done) struct strbuf identity = STRBUF_INIT(8192);
    CLEANUP(strbuf_done) struct strbuf known = STRBUF_INIT(16384);
    CLEANUP(strbuf_done) struct strbuf output = STRBUF_INIT(OUTPUT_MAX);
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/engine.%s", state_dir, backend->name) < 0)
        return;
    strbuf_printf(&identity, "%s %ju %ju %jd %jd.%09ld\n", program, (uintmax_t)st.st_dev,
                  (uintmax_t)st.st_ino, (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec,
                  st.st_mtim.tv_nsec);
    if (identity.failure != STRBUF_FINE)
        return;
    if (file_read(path, &known) == 0 &&
        strncmp(strbuf_text(&known), strbuf_text(&identity), identity.n) == 0) {
        (void)engine_version_parse(strbuf_text(&known) + identity.n, ret_version);
        return;
    }
    static const char *const words[] = { "--version" };
    if (program_ask(backend, program, words, 1, environment, &output, NULL) != POOL_OK)
        return;
    struct engine_version version;
    if (engine_version_parse(strbuf_text(&output), &version)) {
        *ret_version = version;
        strbuf_printf(&identity, "version: %s\n", version.text);
    }
    if (identity.failure == STRBUF_FINE) /* one that does not say is not asked again */
        (void)!file_replace(path, strbuf_text(&identity), identity.n, 0600);
}
