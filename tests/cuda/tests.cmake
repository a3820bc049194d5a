# The tests of CUDA code, twice: linked with the emulator, and with CUDA itself, for machines with a GPU. Files called
# emulated_*_test.cpp ask the emulator what it found; they are no part of the latter.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda/*.cpp)
set(anywhere ${sources})
list(FILTER anywhere EXCLUDE REGEX "/emulated_[a-z_]*\\.cpp$")
set(emulated ${sources})
list(FILTER emulated INCLUDE REGEX "/emulated_[a-z_]*\\.cpp$")

add_library(test_cuda_anywhere OBJECT ${anywhere})
kiln_compile_options(test_cuda_anywhere)
kiln_compile_together(test_cuda_anywhere)
target_compile_options(test_cuda_anywhere PRIVATE $<$<CONFIG:Release>:-O1>)
target_link_libraries(test_cuda_anywhere PRIVATE kiln_kernels GTest::gtest)

add_executable(test_cuda ${emulated} $<TARGET_OBJECTS:test_cuda_anywhere>)
kiln_compile_options(test_cuda)
kiln_compile_together(test_cuda)
target_compile_options(test_cuda PRIVATE $<$<CONFIG:Release>:-O1>)
set_target_properties(test_cuda PROPERTIES KILN_EMULATED ON LINKER_LANGUAGE CXX)
target_link_libraries(test_cuda PRIVATE kiln_kernels GTest::gtest)
# Calls that fail when a test wants it.
target_link_options(test_cuda PRIVATE -Wl,--wrap=cudaMalloc,--wrap=cudaMemsetAsync,--wrap=cudaSetDevice)
math(EXPR timeout "120 * ${KILN_PATIENCE}")
gtest_discover_tests(test_cuda TEST_PREFIX "cuda/" PROPERTIES TIMEOUT ${timeout})
# All of it again with the kernels as nvcc translates them for later GPUs: other compilers, other instructions.
math(EXPR patient "3 * ${timeout}")
foreach(architecture 90 100)
  add_test(NAME cuda/with_kernels_of_compute_${architecture} COMMAND test_cuda)
  set_tests_properties(cuda/with_kernels_of_compute_${architecture} PROPERTIES TIMEOUT ${patient}
    ENVIRONMENT KILN_EMULATOR_ARCHITECTURE=${architecture})
endforeach()

# On a GPU; skipped, in one line, where there is none that kiln could use. A GPU that does not work fails the test.
add_executable(test_cuda_device $<TARGET_OBJECTS:test_cuda_anywhere>)
set_target_properties(test_cuda_device PROPERTIES LINKER_LANGUAGE CXX)
target_link_libraries(test_cuda_device PRIVATE kiln_kernels GTest::gtest)
add_test(NAME cuda/on_a_gpu COMMAND test_cuda_device)
set_tests_properties(cuda/on_a_gpu PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)

# The whole program on a machine that claims to have a GPU, or not to.
add_executable(kiln_emulated ${PROJECT_SOURCE_DIR}/src/main.cpp)
kiln_compile_options(kiln_emulated)
set_target_properties(kiln_emulated PROPERTIES KILN_EMULATED ON)
target_link_libraries(kiln_emulated PRIVATE kiln_cli)
kiln_python_test(cuda/program.py ARGS $<TARGET_FILE:kiln_emulated> $<TARGET_FILE:test_cuda>)

# NVIDIA's own cuBLASLt, as far as it goes without a GPU.
add_executable(test_cublaslt_descriptions cuda/real_library/descriptions.cpp)
kiln_compile_options(test_cublaslt_descriptions)
target_link_libraries(test_cublaslt_descriptions PRIVATE kiln_kernels)
target_link_options(test_cublaslt_descriptions PRIVATE -Wl,--wrap=dlopen)  # counted
add_test(NAME cuda/cublaslt_descriptions COMMAND test_cublaslt_descriptions)
set_tests_properties(cuda/cublaslt_descriptions PROPERTIES SKIP_RETURN_CODE 77)
