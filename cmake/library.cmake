# latentcore::latentcore, shared, and latentcore::static, with what find_package and pkg-config look for.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

target_sources(core PRIVATE csrc/model_function.cpp csrc/c_api.cpp)
add_library(latentcore SHARED ${objects})
add_library(latentcore_static STATIC ${objects})
set_target_properties(latentcore PROPERTIES VERSION ${PROJECT_VERSION} LINKER_LANGUAGE CXX
                      SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
set_target_properties(latentcore_static PROPERTIES OUTPUT_NAME latentcore EXPORT_NAME static LINKER_LANGUAGE CXX)
foreach(library latentcore latentcore_static)
  target_link_libraries(${library} PRIVATE Threads::Threads)
  target_include_directories(${library} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/csrc/include>
                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
add_library(latentcore::latentcore ALIAS latentcore)
add_library(latentcore::static ALIAS latentcore_static)

# Only the public functions are seen; hidden visibility leaves what the standard library instantiates. The threads of the
# pool live on, so that the code that they run is never unloaded.
if(APPLE)
  target_link_options(latentcore PRIVATE -Wl,-exported_symbol,_lc_*)
else()
  set(exports ${PROJECT_SOURCE_DIR}/cmake/exports.map)
  target_link_options(latentcore PRIVATE -Wl,--version-script=${exports} -Wl,-z,nodelete)
  set_target_properties(latentcore PROPERTIES LINK_DEPENDS ${exports})
endif()

set(runtime ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(FILTER runtime INCLUDE REGEX "^(std)?c\\+\\+$")
list(APPEND runtime m)
list(TRANSFORM runtime PREPEND "-l" OUTPUT_VARIABLE runtime_flags)
list(JOIN runtime_flags " " runtime_flags)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/latentcore)
configure_file(cmake/latentcoreConfig.cmake.in latentcoreConfig.cmake @ONLY)
configure_file(cmake/latentcore.pc.in latentcore.pc @ONLY)
write_basic_package_version_file(latentcoreConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(TARGETS latentcore latentcore_static EXPORT latentcoreTargets)
install(FILES csrc/include/latentcore.h TYPE INCLUDE)
install(EXPORT latentcoreTargets NAMESPACE latentcore:: DESTINATION ${package})
install(FILES ${PROJECT_BINARY_DIR}/latentcoreConfig.cmake ${PROJECT_BINARY_DIR}/latentcoreConfigVersion.cmake
        DESTINATION ${package})
install(FILES ${PROJECT_BINARY_DIR}/latentcore.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
