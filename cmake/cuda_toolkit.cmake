# Which CUDA toolkit is used: the first of -DCUDAToolkit_ROOT (or that variable of the environment), .cuda in the source tree
# (scripts/get-cuda-toolkit), CUDA_HOME, nvcc on PATH, /usr/local/cuda. Without one the CUDA tests are left out, in one
# line; with KILN_REQUIRE_CUDA=1 in the environment that is an error. Sets what FindCUDAToolkit sets.
if(NOT CUDAToolkit_ROOT AND NOT DEFINED ENV{CUDAToolkit_ROOT})
  foreach(folder "${PROJECT_SOURCE_DIR}/.cuda" "$ENV{CUDA_HOME}")
    if(EXISTS "${folder}/bin/nvcc")
      set(CUDAToolkit_ROOT "${folder}")
      break()
    endif()
  endforeach()
elseif(NOT EXISTS "${CUDAToolkit_ROOT}/bin/nvcc" AND NOT EXISTS "$ENV{CUDAToolkit_ROOT}/bin/nvcc")
  message(FATAL_ERROR "CUDAToolkit_ROOT=${CUDAToolkit_ROOT}$ENV{CUDAToolkit_ROOT} holds no bin/nvcc: name a folder that does "
                      "(scripts/get-cuda-toolkit FOLDER makes one), or leave it away")
endif()
set(known "${CUDAToolkit_NVCC_EXECUTABLE}")
if(known AND (NOT EXISTS "${known}" OR (CUDAToolkit_ROOT AND NOT known STREQUAL "${CUDAToolkit_ROOT}/bin/nvcc")))
  # An earlier configuration found another one, or one that is gone: nothing of it is remembered.
  get_cmake_property(variables CACHE_VARIABLES)
  list(FILTER variables INCLUDE REGEX "^(CUDA_.+_LIBRARY|CUDA_CUDART|CUDAToolkit_(NVCC_EXECUTABLE|BIN_DIR|SENTINEL_FILE|.+_INCLUDE_DIR))$")
  foreach(variable IN LISTS variables)
    unset(${variable} CACHE)
  endforeach()
endif()
find_package(CUDAToolkit QUIET)
if(CUDAToolkit_FOUND)
  message(STATUS "CUDA toolkit: ${CUDAToolkit_VERSION} (${CUDAToolkit_NVCC_EXECUTABLE})")
elseif("$ENV{KILN_REQUIRE_CUDA}" STREQUAL "1")
  message(FATAL_ERROR "KILN_REQUIRE_CUDA=1, but no nvcc was found: scripts/get-cuda-toolkit brings one, or put an installed "
                      "toolkit's bin folder on PATH (CUDA 12 or later)")
else()
  message(STATUS "CUDA toolkit: no nvcc found, the CUDA tests are skipped (scripts/get-cuda-toolkit brings one)")
endif()
