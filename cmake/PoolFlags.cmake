# Compiler and linker flags, as two interface libraries: pool_warnings for everything we compile, pool_flags for
# everything but the test doubles (which stay free of sanitizers: a fake worker is a static program).

set(POOL_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wswitch-enum -Wvla -Wformat=2)
set(POOL_C_WARNINGS -Wstrict-prototypes -Wmissing-prototypes)

add_library(pool_warnings INTERFACE)
# _GNU_SOURCE is defined empty, so that a file may say "#define _GNU_SOURCE" itself.
target_compile_options(pool_warnings INTERFACE
    ${POOL_WARNINGS} "$<$<COMPILE_LANGUAGE:C>:${POOL_C_WARNINGS}>" -fno-common)
target_compile_definitions(pool_warnings INTERFACE $<$<COMPILE_LANGUAGE:C>:_GNU_SOURCE=>)

add_library(pool_flags INTERFACE)
target_link_libraries(pool_flags INTERFACE pool_warnings)
target_include_directories(pool_flags INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
target_link_options(pool_flags INTERFACE -Wl,--as-needed -Wl,-z,defs,-z,noexecstack)

if(POOL_SANITIZE)
    # No static libstdc++ here: AddressSanitizer finds the real __cxa_throw in the shared one only.
    # libubsan and libasan leave symbols undefined in shared libraries, so -z defs must go.
    set_property(TARGET pool_flags PROPERTY INTERFACE_LINK_OPTIONS -Wl,--as-needed)
    target_compile_options(pool_flags INTERFACE -fsanitize=${POOL_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(pool_flags INTERFACE -fsanitize=${POOL_SANITIZE})
    if(POOL_SANITIZE MATCHES "undefined")
        target_compile_options(pool_flags INTERFACE -fno-sanitize-recover=undefined)
    endif()
else()
    # The C++ in us is one TOML reader; nobody shall need libstdc++ at run time for it.
    target_link_options(pool_flags INTERFACE -static-libstdc++ -static-libgcc)
endif()

if(POOL_HARDEN)
    target_compile_options(pool_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
                           -fstack-clash-protection -fcf-protection)
    target_link_options(pool_flags INTERFACE -Wl,-z,relro,-z,now)
else()
    # Some distributions fortify by default, which turns asprintf into __asprintf_chk behind the wrappers' back.
    target_compile_options(pool_flags INTERFACE -U_FORTIFY_SOURCE)
endif()

if(POOL_LTO)
    set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
endif()
