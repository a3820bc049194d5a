# What can be said of CUDA code without executing it, and where its compiler comes from.
kiln_python_test(cuda/get_toolkit.py TIMEOUT 300)
if(KILN_HAS_CUDA)
  add_executable(kiln_cuda_occupancy cuda/gates/occupancy.cpp)
  kiln_compile_options(kiln_cuda_occupancy)
  target_include_directories(kiln_cuda_occupancy SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  set(tools --occupancy $<TARGET_FILE:kiln_cuda_occupancy> --ptxas ${CUDAToolkit_BIN_DIR}/ptxas)
  kiln_python_test(cuda/gates/static_gates.py TIMEOUT 300 ARGS --objects ${PROJECT_BINARY_DIR}/kernels/cuda ${tools})
  kiln_python_test(cuda/gates/static_gates.py NAME cuda/gates/self_test TIMEOUT 300
                   ARGS --self-test --nvcc ${CUDAToolkit_NVCC_EXECUTABLE} ${tools})
  if(NOT KILN_SANITIZE)  # what kills a mutant is the emulator, which is many times slower then
    kiln_python_test(mutation/cuda.py NAME mutation/cuda_verdicts ARGS --self-test)
    list(JOIN KILN_CUDA_CODE_FLAGS " " flags)
    set(mutants --build ${PROJECT_BINARY_DIR} --nvcc ${CUDAToolkit_NVCC_EXECUTABLE} "--nvcc-flags=${flags}"
        --ninja ${CMAKE_MAKE_PROGRAM})
    # 90 seconds on two cores are meant, and printed; a machine that does other work may take twice as long.
    kiln_python_test(mutation/cuda.py NAME mutation/cuda_few ARGS --count 12 ${mutants} TIMEOUT 180)
    kiln_python_test(mutation/cuda.py ARGS --count 72 ${mutants} TIMEOUT 10000 LABELS nightly)
  endif()
endif()
