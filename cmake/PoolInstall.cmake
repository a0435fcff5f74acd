# What goes where on a system: the program, the library, the public headers, pool-core.pc, the license.
if(TARGET pool-core)
    install(TARGETS pool-core LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(TARGET rbees-pool)
    install(TARGETS rbees-pool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY include/pool DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)

configure_file(packaging/pool-core.pc.in pool-core.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/pool-core.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
