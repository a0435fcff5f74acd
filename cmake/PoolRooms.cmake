# The rooms of the house, the library made of them, the command line and the daemon.

# pool_room(NAME SOURCES... [LINK LIBRARIES...]): a static library of the room's sources; a room that has no
# sources yet does not exist. POOL_ROOMS lists those that do.
set(POOL_ROOMS "")
function(pool_room name)
    cmake_parse_arguments(ROOM "" "" "SOURCES;LINK" ${ARGN})
    if(NOT ROOM_SOURCES)
        return()
    endif()
    add_library(${name} STATIC ${ROOM_SOURCES})
    set(links pool_flags)
    foreach(library IN LISTS ROOM_LINK)
        if(NOT library MATCHES "^pool_" OR TARGET ${library})
            list(APPEND links ${library})
        endif()
    endforeach()
    target_link_libraries(${name} PUBLIC ${links})
    set(POOL_ROOMS ${POOL_ROOMS} ${name} PARENT_SCOPE)
endfunction()

file(GLOB BASE_SOURCES CONFIGURE_DEPENDS src/base/*.c src/base/*.cpp)
file(GLOB TYPES_SOURCES CONFIGURE_DEPENDS src/core/*.c)
file(GLOB CONFIG_SOURCES CONFIGURE_DEPENDS src/core/config*.c)
list(REMOVE_ITEM TYPES_SOURCES ${CONFIG_SOURCES})

pool_room(pool_base SOURCES ${BASE_SOURCES} LINK PkgConfig::JANSSON)
pool_room(pool_types SOURCES ${TYPES_SOURCES} LINK pool_base)
pool_room(pool_config SOURCES ${CONFIG_SOURCES} LINK pool_types pool_base)
foreach(room IN ITEMS gpu catalog registry api)
    file(GLOB ROOM_SOURCES CONFIGURE_DEPENDS src/core/${room}/*.c)
    pool_room(pool_${room} SOURCES ${ROOM_SOURCES} LINK pool_types pool_base)
endforeach()
file(GLOB LIFECYCLE_SOURCES CONFIGURE_DEPENDS src/core/lifecycle/*.c)
pool_room(pool_lifecycle SOURCES ${LIFECYCLE_SOURCES}
          LINK pool_api pool_gpu pool_catalog pool_registry pool_config pool_types pool_base)

if(TARGET pool_gpu)
    target_link_libraries(pool_gpu PUBLIC ${CMAKE_DL_LIBS})
endif()
if(TARGET pool_base)
    # Its headers only: libcrypto is loaded when something is to be hashed (digest.c).
    target_include_directories(pool_base PRIVATE ${OPENSSL_INCLUDE_DIR})
    target_link_libraries(pool_base PUBLIC ${CMAKE_DL_LIBS})
endif()
if(TARGET pool_registry)
    target_link_libraries(pool_registry PUBLIC SQLite::SQLite3)
endif()

# toml++ is not ours to keep free of warnings.
if(TARGET pool_base)
    target_include_directories(pool_base SYSTEM PRIVATE ${TOMLPLUSPLUS_INCLUDE_DIR})
endif()

# All rooms, for tests and benchmarks that see inside.
add_library(pool_all_rooms INTERFACE)
target_link_libraries(pool_all_rooms INTERFACE ${POOL_ROOMS} pool_flags)

if(POOL_ROOMS)
    set(POOL_OBJECTS "")
    foreach(room IN LISTS POOL_ROOMS)
        list(APPEND POOL_OBJECTS $<TARGET_OBJECTS:${room}>)
    endforeach()
    set(POOL_MAP ${CMAKE_SOURCE_DIR}/src/core/libpool-core.map)
    add_library(pool-core SHARED ${POOL_OBJECTS})
    set_target_properties(pool-core PROPERTIES
        VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE CXX LINK_DEPENDS ${POOL_MAP})
    target_link_libraries(pool-core
        PRIVATE pool_flags PkgConfig::JANSSON SQLite::SQLite3 ${CMAKE_DL_LIBS})
    target_link_options(pool-core PRIVATE -Wl,--version-script=${POOL_MAP})
    target_include_directories(pool-core INTERFACE ${CMAKE_SOURCE_DIR}/include)
endif()

# rbees-pool sees libpool-core through its public functions; base comes along as a copy of its own.
# pool_cli is everything but main(), so that tests can link it.
file(GLOB CLI_SOURCES CONFIGURE_DEPENDS src/cli/*.c src/cli/download/*.c)
file(GLOB CLI_MAIN CONFIGURE_DEPENDS src/cli/main.c)
file(GLOB MANUAL_MAIN CONFIGURE_DEPENDS src/cli/manual_main.c)
list(REMOVE_ITEM CLI_SOURCES "${CLI_MAIN}" "${MANUAL_MAIN}")
if(CLI_SOURCES)
    pool_embed(${CMAKE_BINARY_DIR}/generated/setup_files.c cli/setup_files.h
               setup_config_text ${CMAKE_SOURCE_DIR}/examples/pool.toml
               setup_catalog_text ${CMAKE_SOURCE_DIR}/examples/catalog.toml)
    add_library(pool_cli STATIC ${CLI_SOURCES} ${CMAKE_BINARY_DIR}/generated/setup_files.c)
    target_link_libraries(pool_cli PUBLIC pool_flags PkgConfig::JANSSON)
endif()
if(CLI_MAIN AND TARGET pool-core)
    file(RELATIVE_PATH BIN_TO_LIB ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
    add_executable(rbees-pool ${CLI_MAIN})
    target_link_libraries(rbees-pool PRIVATE $<TARGET_NAME_IF_EXISTS:pool_cli> pool-core pool_base pool_flags)
    # The installed path from the start: what CMake rewrites at install time it pads with ':', and an empty element means
    # the working folder. In the build tree the library is in ../lib.
    set_target_properties(rbees-pool PROPERTIES LINKER_LANGUAGE CXX
        INSTALL_RPATH "$ORIGIN/${BIN_TO_LIB};$ORIGIN/../lib" BUILD_WITH_INSTALL_RPATH ON)
endif()

# The daemon in the same way: pool_managerd is everything but the two main()s. What of the library it calls, its
# programs take from libpool-core and its tests from the rooms.
file(GLOB MANAGERD_SOURCES CONFIGURE_DEPENDS src/managerd/*.c)
file(GLOB MANAGERD_MAIN CONFIGURE_DEPENDS src/managerd/main.c)
file(GLOB GPU_PROBE_MAIN CONFIGURE_DEPENDS src/managerd/gpu_probe_main.c)
list(REMOVE_ITEM MANAGERD_SOURCES "${MANAGERD_MAIN}" "${GPU_PROBE_MAIN}")
if(MANAGERD_SOURCES)
    add_library(pool_managerd STATIC ${MANAGERD_SOURCES})
    target_link_libraries(pool_managerd PUBLIC pool_flags pool_base
        PkgConfig::LIBUV PkgConfig::MICROHTTPD PkgConfig::CURL PkgConfig::JANSSON OpenSSL::Crypto)
endif()
if(MANAGERD_MAIN AND TARGET pool-core)
    file(RELATIVE_PATH BIN_TO_LIB ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
    add_executable(pool-managerd ${MANAGERD_MAIN})
    target_link_libraries(pool-managerd PRIVATE pool_managerd pool-core pool_base pool_flags)
    set_target_properties(pool-managerd PROPERTIES LINKER_LANGUAGE CXX
        INSTALL_RPATH "$ORIGIN/${BIN_TO_LIB};$ORIGIN/../lib" BUILD_WITH_INSTALL_RPATH ON)
endif()
if(GPU_PROBE_MAIN AND TARGET pool-core)
    set(POOL_LIBEXEC_DIR ${CMAKE_INSTALL_FULL_LIBEXECDIR}/pool-core)
    file(RELATIVE_PATH LIBEXEC_TO_LIB ${POOL_LIBEXEC_DIR} ${CMAKE_INSTALL_FULL_LIBDIR})
    add_executable(pool-gpu-probe ${GPU_PROBE_MAIN})
    target_link_libraries(pool-gpu-probe PRIVATE $<TARGET_NAME_IF_EXISTS:pool_managerd> pool-core pool_base pool_flags)
    set_target_properties(pool-gpu-probe PROPERTIES LINKER_LANGUAGE CXX
        INSTALL_RPATH "$ORIGIN/${LIBEXEC_TO_LIB};$ORIGIN/../lib" BUILD_WITH_INSTALL_RPATH ON)
endif()

# The manual pages, made from the tables of the programs.
if(MANUAL_MAIN AND TARGET pool_cli AND TARGET pool-managerd AND NOT POOL_SANITIZE)
    add_executable(pool-manuals ${MANUAL_MAIN})
    target_link_libraries(pool-manuals PRIVATE pool_cli pool-core pool_base pool_flags)
    set_target_properties(pool-manuals PROPERTIES LINKER_LANGUAGE CXX RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/support)
    set(POOL_MANUALS_DIR ${CMAKE_BINARY_DIR}/man)
    set(POOL_MANUALS ${POOL_MANUALS_DIR}/rbees-pool.1 ${POOL_MANUALS_DIR}/pool-managerd.8 ${POOL_MANUALS_DIR}/pool.toml.5)
    add_custom_command(OUTPUT ${POOL_MANUALS}
        COMMAND ${CMAKE_COMMAND} -E make_directory ${POOL_MANUALS_DIR}
        COMMAND pool-managerd --help > ${POOL_MANUALS_DIR}/pool-managerd.help
        COMMAND pool-manuals ${POOL_MANUALS_DIR}/pool-managerd.help ${POOL_MANUALS_DIR}
        DEPENDS pool-manuals pool-managerd VERBATIM COMMENT "Writing the manual pages")
    add_custom_target(manuals ALL DEPENDS ${POOL_MANUALS})
endif()
