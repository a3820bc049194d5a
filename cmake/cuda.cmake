# CUDA, which is optional: KILN_CUDA says whether to build with it, KILN_HAS_CUDA whether it is. Kernels are compiled by
# nvcc once a file. The same object is linked into kiln and into the tests that run without a GPU: it holds machine code
# of several GPUs for the one, and PTX, uncompressed, for the emulator (tests/cuda_emulator: of compute_80 unless told
# otherwise), for tests/cuda/gates, and for GPUs that came later, which translate it for themselves.
#
# A program takes CUDA's runtime and cuBLASLt by linking kiln_cuda_runtime and kiln_cublaslt; one with the property
# KILN_EMULATED gets the emulator and its libraries in their place.
if(NOT KILN_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "KILN_CUDA=${KILN_CUDA}: it is AUTO (where nvcc is found), ON or OFF")
endif()
set(KILN_HAS_CUDA OFF)
set(lack "")
if(KILN_CUDA)
  include(${CMAKE_CURRENT_LIST_DIR}/cuda_toolkit.cmake)
endif()
if(NOT CUDAToolkit_NVCC_EXECUTABLE)
  set(lack "no nvcc found (12.8 or later)")
elseif(NOT CUDAToolkit_FOUND)
  set(lack "the toolkit of ${CUDAToolkit_NVCC_EXECUTABLE} is too old or not complete (12.8 or later, with headers and libraries)")
elseif(NOT TARGET CUDA::cudart_static OR NOT EXISTS "${CUDAToolkit_LIBRARY_DIR}/libcudart_static.a")  # but another's, perhaps
  set(lack "nvcc is there (${CUDAToolkit_NVCC_EXECUTABLE}), but its toolkit has no libcudart_static.a")
endif()
if(KILN_FUZZ)
  message(STATUS "CUDA: left out of the fuzzing build")
elseif(NOT KILN_CUDA)
  message(STATUS "CUDA: off, as asked for; kiln is built for the CPU")
elseif(NOT lack)
  set(KILN_HAS_CUDA ON)
  message(STATUS "CUDA: nvcc ${CUDAToolkit_VERSION} (${CUDAToolkit_NVCC_EXECUTABLE}); kiln is built for the CPU and for GPUs")
elseif(NOT KILN_CUDA STREQUAL "AUTO")
  message(FATAL_ERROR "KILN_CUDA=${KILN_CUDA}, but ${lack}: scripts/get-cuda-toolkit brings a whole toolkit, or put an installed "
                      "one's bin folder on PATH")
elseif("$ENV{KILN_REQUIRE_CUDA}" STREQUAL "1")
  message(FATAL_ERROR "KILN_REQUIRE_CUDA=1, but ${lack}: scripts/get-cuda-toolkit brings a whole toolkit, or put an installed one's "
                      "bin folder on PATH")
else()
  message(STATUS "CUDA: ${lack}; kiln is built for the CPU, the CUDA tests are skipped (scripts/get-cuda-toolkit brings a whole "
                 "toolkit)")
endif()
if("$ENV{KILN_REQUIRE_CUDA}" STREQUAL "1" AND NOT KILN_HAS_CUDA AND NOT KILN_FUZZ)
  message(FATAL_ERROR "KILN_REQUIRE_CUDA=1, but KILN_CUDA=${KILN_CUDA} leaves CUDA out")
endif()

# Of the files src/device/cuda*.cpp, those that belong to this build.
function(kiln_choose_cuda_files list)
  if(KILN_HAS_CUDA)
    list(FILTER ${list} EXCLUDE REGEX "/cuda_absent\\.cpp$")
  else()
    list(FILTER ${list} EXCLUDE REGEX "/cuda_(check|device|memory|staging|stream)\\.cpp$")
  endif()
  set(${list} ${${list}} PARENT_SCOPE)
endfunction()

if(NOT KILN_HAS_CUDA)
  return()
endif()

set(emulated "$<BOOL:$<TARGET_PROPERTY:KILN_EMULATED>>")  # of the program that is linked
add_library(kiln_cuda_runtime INTERFACE)
set(KILN_CUDA_RUNTIME kiln_cuda_runtime)  # what src/device links; nothing without CUDA
target_include_directories(kiln_cuda_runtime SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(kiln_cuda_runtime INTERFACE $<IF:${emulated},kiln_cuda_emulator,CUDA::cudart_static>)

# libcublasLt.so has half a gigabyte and is not on every machine: it is loaded when the first product on a GPU is made.
add_library(kiln_cublaslt_loader STATIC ${PROJECT_SOURCE_DIR}/kernels/cuda/loader/cublaslt.cpp)
target_compile_definitions(kiln_cublaslt_loader PRIVATE KILN_CUBLASLT_FOLDER="${CUDAToolkit_LIBRARY_DIR}")
target_compile_options(kiln_cublaslt_loader PRIVATE -fvisibility=hidden)  # the library itself must not meet these names
target_link_libraries(kiln_cublaslt_loader PUBLIC kiln_core kiln_cuda_runtime ${CMAKE_DL_LIBS})
add_library(kiln_cublaslt INTERFACE)
target_link_libraries(kiln_cublaslt INTERFACE $<IF:${emulated},kiln_cuda_emulator_libraries,kiln_cublaslt_loader>)

set(KILN_CUDA_CODE_FLAGS -std=c++20 -O3 -lineinfo --compress-mode=none --expt-relaxed-constexpr)  # of any architecture
set(KILN_CUDA_FLAGS ${KILN_CUDA_CODE_FLAGS}
    -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90,code=[sm_90,compute_90]
    -gencode arch=compute_100,code=[sm_100,compute_100]
    -Werror all-warnings -Xcompiler=-Wall,-Wextra,-Wshadow,-Werror)

# kiln_cuda_objects(objects): compiles every kernels/cuda/*.cu.
function(kiln_cuda_objects objects)
  file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu)
  set(made "")
  foreach(file IN LISTS files)
    get_filename_component(name ${file} NAME_WE)
    set(object ${PROJECT_BINARY_DIR}/kernels/cuda/${name}.cu.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} ${KILN_CUDA_FLAGS} -ccbin ${CMAKE_CXX_COMPILER} -I${PROJECT_SOURCE_DIR}
              -MD -MF ${object}.d -c ${file} -o ${object}
      DEPENDS ${file} DEPFILE ${object}.d
      COMMENT "nvcc kernels/cuda/${name}.cu" VERBATIM)
    list(APPEND made ${object})
  endforeach()
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/kernels/cuda)
  set_source_files_properties(${made} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  set(${objects} ${made} PARENT_SCOPE)
endfunction()
