# Every outside library as one interface target, so that versions and quirks stand in one place.
find_package(PkgConfig REQUIRED)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

function(ort__pkg name module)
  pkg_check_modules(${name}_PC REQUIRED IMPORTED_TARGET ${module})
  add_library(${name} INTERFACE)
  target_link_libraries(${name} INTERFACE PkgConfig::${name}_PC)
endfunction()

ort__pkg(ort_sqlite sqlite3)
ort__pkg(ort_sodium libsodium)
ort__pkg(ort_jansson jansson)
ort__pkg(ort_lz4 liblz4)
ort__pkg(ort_zstd libzstd)
ort__pkg(ort_openssl libssl)
ort__pkg(ort_libcrypto libcrypto)
ort__pkg(ort_curl libcurl)
ort__pkg(ort_cyaml libcyaml)
ort__pkg(ort_deflate libdeflate)
ort__pkg(ort_cmocka cmocka)
ort__pkg(ort_yaml yaml-0.1)

ort__pkg(ort_icu icu-uc)

# Compressed bitmaps and word stems: packages without a pkg-config file.
find_library(ORT_ROARING_LIBRARY roaring REQUIRED)
find_path(ORT_ROARING_INCLUDE roaring/roaring.h REQUIRED)
add_library(ort_roaring INTERFACE)
target_include_directories(ort_roaring SYSTEM INTERFACE "${ORT_ROARING_INCLUDE}")
target_link_libraries(ort_roaring INTERFACE "${ORT_ROARING_LIBRARY}")

find_library(ORT_STEMMER_LIBRARY stemmer REQUIRED)
find_path(ORT_STEMMER_INCLUDE libstemmer.h REQUIRED)
add_library(ort_stemmer INTERFACE)
target_include_directories(ort_stemmer SYSTEM INTERFACE "${ORT_STEMMER_INCLUDE}")
target_link_libraries(ort_stemmer INTERFACE "${ORT_STEMMER_LIBRARY}")

find_package(nng CONFIG REQUIRED)
add_library(ort_nng INTERFACE)
target_link_libraries(ort_nng INTERFACE nng::nng)

# Debian's civetweb CMake package names a file that it does not ship: look for the library itself.
find_library(ORT_CIVETWEB_LIBRARY civetweb REQUIRED)
find_path(ORT_CIVETWEB_INCLUDE civetweb.h REQUIRED)
add_library(ort_civetweb INTERFACE)
target_include_directories(ort_civetweb SYSTEM INTERFACE "${ORT_CIVETWEB_INCLUDE}")
target_link_libraries(ort_civetweb INTERFACE "${ORT_CIVETWEB_LIBRARY}")

# The pthread build: Debian's serial one gives wrong results when called from several threads.
find_library(ORT_OPENBLAS_LIBRARY NAMES openblas
  PATH_SUFFIXES openblas-pthread PATHS /usr/lib/${CMAKE_C_LIBRARY_ARCHITECTURE} REQUIRED)
find_path(ORT_OPENBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas-pthread
  PATHS /usr/include/${CMAKE_C_LIBRARY_ARCHITECTURE} REQUIRED)
add_library(ort_openblas INTERFACE)
target_include_directories(ort_openblas SYSTEM INTERFACE "${ORT_OPENBLAS_INCLUDE}")
target_link_libraries(ort_openblas INTERFACE "${ORT_OPENBLAS_LIBRARY}")
