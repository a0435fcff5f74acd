# pool_embed(OUTPUT HEADER NAME FILE...): a C file OUTPUT that defines `const char NAME[]` with the text of FILE for each
# pair; HEADER declares them. Made when CMake runs, and again when a file has changed.
function(pool_embed output header)
    set(text "/* Made by cmake/PoolEmbed.cmake. */\n#include \"${header}\"\n")
    while(ARGN)
        list(POP_FRONT ARGN name file)
        file(READ ${file} bytes HEX)
        string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
        string(REGEX REPLACE "(.....................................................................................)"
               "\\1\n    " bytes "${bytes}")
        string(APPEND text "\nconst char ${name}[] = {\n    ${bytes}0\n};\n")
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    endwhile()
    file(CONFIGURE OUTPUT ${output} CONTENT "${text}" @ONLY)
endfunction()
