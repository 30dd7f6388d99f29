# Compiler flags of each preset. Flags that every preset shares come first.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_BUILD_TYPE "" CACHE STRING "" FORCE) # the preset decides
# Where programs find the shared libraries that are ours (shared/http/shim), built and installed.
set(CMAKE_BUILD_RPATH "$ORIGIN/../lib/orthant")
set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib/orthant")

add_compile_definitions(_GNU_SOURCE)
add_compile_options(
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wvla
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
  -fno-strict-aliasing -fno-omit-frame-pointer -g)

if(ORT_PRESET STREQUAL "release")
  # Asserts stay: they guard our own mistakes and cost nothing next to a memory miss.
  add_compile_options(-O3 -fstack-protector-strong)
  add_compile_definitions(_FORTIFY_SOURCE=2)
  add_link_options(-Wl,-z,relro,-z,now)
elseif(ORT_PRESET STREQUAL "check")
  add_compile_options(-O1 -Werror -fsanitize=address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
  add_compile_definitions(ORT_CHECK=1)
elseif(ORT_PRESET STREQUAL "tsan")
  add_compile_options(-O1 -fsanitize=thread)
  add_link_options(-fsanitize=thread)
  add_compile_definitions(ORT_CHECK=1 ORT_TSAN=1)
elseif(ORT_PRESET STREQUAL "fuzz")
  add_compile_options(-O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
  add_compile_definitions(ORT_CHECK=1 ORT_FUZZ=1)
else()
  message(FATAL_ERROR "unknown ORT_PRESET '${ORT_PRESET}': release, check, tsan or fuzz")
endif()
