# What goes where on a system: the programs, the library, the public headers, pool-core.pc, units of systemd, the license.
if(TARGET pool-core)
    install(TARGETS pool-core LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(TARGET rbees-pool)
    install(TARGETS rbees-pool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET pool-managerd)
    install(TARGETS pool-managerd RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET pool-gpu-probe)
    install(TARGETS pool-gpu-probe RUNTIME DESTINATION ${POOL_LIBEXEC_DIR})
endif()
install(DIRECTORY include/pool DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES packaging/prometheus/pool-core.rules.yml packaging/grafana/pool-core.json
        DESTINATION ${CMAKE_INSTALL_DATADIR}/pool-core)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)

configure_file(packaging/pool-core.pc.in pool-core.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/pool-core.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# Below the prefix, where systemd looks too when that is /usr or /usr/local. The unit names the programs by their paths,
# and the prefix can still be changed when installing.
if(TARGET pool-managerd)
    install(CODE "
        cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_PREFIX NORMALIZE OUTPUT_VARIABLE prefix)
        set(POOL_BINDIR ${CMAKE_INSTALL_BINDIR})
        set(POOL_DOCDIR ${CMAKE_INSTALL_DOCDIR})
        cmake_path(ABSOLUTE_PATH POOL_BINDIR BASE_DIRECTORY \${prefix})
        cmake_path(ABSOLUTE_PATH POOL_DOCDIR BASE_DIRECTORY \${prefix})
        set(unit \${prefix}/lib/systemd/system/pool-managerd.service)
        configure_file(${CMAKE_SOURCE_DIR}/packaging/systemd/pool-managerd.service.in \$ENV{DESTDIR}\${unit} @ONLY)
        list(APPEND CMAKE_INSTALL_MANIFEST_FILES \${unit})
        message(STATUS \"Installing: \$ENV{DESTDIR}\${unit}\")")
    install(FILES packaging/systemd/pool-managerd.socket DESTINATION lib/systemd/system)
    install(FILES packaging/systemd/sysusers.conf DESTINATION lib/sysusers.d RENAME pool-core.conf)
    install(FILES packaging/systemd/tmpfiles.conf DESTINATION lib/tmpfiles.d RENAME pool-core.conf)
    install(FILES docs/daemon.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
endif()
