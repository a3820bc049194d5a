# Every library Kiln stands on, with the Debian package that brings it. A missing one ends the configuration
# with one sentence that says what to install.

function(kiln_missing what package)
  message(FATAL_ERROR "Kiln needs ${what}. On Debian: apt-get install ${package} (scripts/test installs everything).")
endfunction()

find_package(Threads REQUIRED)

find_package(nlohmann_json 3.11 QUIET)
if(NOT nlohmann_json_FOUND)
  kiln_missing("nlohmann/json 3.11" nlohmann-json3-dev)
endif()

find_package(fmt QUIET)
find_package(spdlog QUIET)
if(NOT spdlog_FOUND OR NOT fmt_FOUND)
  kiln_missing("spdlog and fmt" "libspdlog-dev libfmt-dev")
endif()

find_package(CLI11 QUIET)
if(NOT CLI11_FOUND)
  kiln_missing("CLI11" libcli11-dev)
endif()

# PCRE2 runs GPT-2's pre-tokenisation pattern, xxHash is the checksum of data; neither brings CMake files in Debian 12.
find_library(KILN_PCRE2 NAMES pcre2-8)
find_library(KILN_XXHASH NAMES xxhash)
find_path(KILN_PCRE2_INCLUDE pcre2.h)
find_path(KILN_XXHASH_INCLUDE xxhash.h)
if(NOT KILN_PCRE2 OR NOT KILN_PCRE2_INCLUDE)
  kiln_missing("PCRE2" libpcre2-dev)
endif()
if(NOT KILN_XXHASH OR NOT KILN_XXHASH_INCLUDE)
  kiln_missing("xxHash" libxxhash-dev)
endif()
add_library(kiln_pcre2 INTERFACE)
target_include_directories(kiln_pcre2 SYSTEM INTERFACE ${KILN_PCRE2_INCLUDE})
target_link_libraries(kiln_pcre2 INTERFACE ${KILN_PCRE2})
add_library(kiln_xxhash INTERFACE)
target_include_directories(kiln_xxhash SYSTEM INTERFACE ${KILN_XXHASH_INCLUDE})
target_link_libraries(kiln_xxhash INTERFACE ${KILN_XXHASH})

# oneDNN, found by file: its own CMake package asks for OpenCL too. Kiln calls it from its own threads, each told to
# use one OpenMP thread.
find_library(KILN_DNNL NAMES dnnl)
find_path(KILN_DNNL_INCLUDE oneapi/dnnl/dnnl.hpp)
if(NOT KILN_DNNL OR NOT KILN_DNNL_INCLUDE)
  kiln_missing("oneDNN" libdnnl-dev)
endif()
find_package(OpenMP QUIET COMPONENTS CXX)
if(NOT OpenMP_CXX_FOUND)
  kiln_missing("the OpenMP run-time library that oneDNN uses" g++)
endif()
add_library(kiln_onednn INTERFACE)
target_include_directories(kiln_onednn SYSTEM INTERFACE ${KILN_DNNL_INCLUDE})
target_link_libraries(kiln_onednn INTERFACE ${KILN_DNNL} OpenMP::OpenMP_CXX)

# OpenBLAS with LAPACKE: factorisations, and the peer that the GEMM benchmark compares with.
find_library(KILN_OPENBLAS NAMES openblas)
find_library(KILN_LAPACKE NAMES lapacke)
find_path(KILN_CBLAS_INCLUDE cblas.h PATH_SUFFIXES x86_64-linux-gnu openblas)
find_path(KILN_LAPACKE_INCLUDE lapacke.h)
if(NOT KILN_OPENBLAS OR NOT KILN_LAPACKE OR NOT KILN_CBLAS_INCLUDE OR NOT KILN_LAPACKE_INCLUDE)
  kiln_missing("OpenBLAS and LAPACKE" "libopenblas-pthread-dev liblapacke-dev")
endif()
add_library(kiln_blas INTERFACE)
target_include_directories(kiln_blas SYSTEM INTERFACE ${KILN_CBLAS_INCLUDE} ${KILN_LAPACKE_INCLUDE})
target_link_libraries(kiln_blas INTERFACE ${KILN_LAPACKE} ${KILN_OPENBLAS})
