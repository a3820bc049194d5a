# Which CUDA toolkit is used: the first of -DCUDAToolkit_ROOT (or that variable of the environment), .cuda in the source tree
# (scripts/get-cuda-toolkit), CUDA_HOME, nvcc on PATH, /usr/local/cuda. Sets what FindCUDAToolkit sets. CMake's own language
# CUDA is not used, nor what chooses its compiler.
if(NOT CUDAToolkit_ROOT AND DEFINED ENV{CUDAToolkit_ROOT})
  set(CUDAToolkit_ROOT "$ENV{CUDAToolkit_ROOT}")
endif()
if(NOT CUDAToolkit_ROOT)
  foreach(folder "${PROJECT_SOURCE_DIR}/.cuda" "$ENV{CUDA_HOME}")
    if(EXISTS "${folder}/bin/nvcc")
      set(CUDAToolkit_ROOT "${folder}")
      break()
    endif()
  endforeach()
elseif(NOT EXISTS "${CUDAToolkit_ROOT}/bin/nvcc")
  message(FATAL_ERROR "CUDAToolkit_ROOT=${CUDAToolkit_ROOT} holds no bin/nvcc: name a folder that does "
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
foreach(other IN ITEMS "$ENV{CUDACXX}" "${CMAKE_CUDA_COMPILER}")
  if(other)
    message(WARNING "CUDACXX and CMAKE_CUDA_COMPILER (${other}) choose nothing here: -DCUDAToolkit_ROOT=FOLDER does, where FOLDER/bin/nvcc is")
  endif()
endforeach()
find_package(CUDAToolkit 12.8 QUIET)  # the first that leaves PTX uncompressed when asked
