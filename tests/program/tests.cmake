# Whole-program tests: each runs the built kiln as a person would.
foreach(library kill_at_file_call allocation_log)
  add_library(${library} SHARED program/${library}.cpp)
  kiln_compile_options(${library})
  target_link_libraries(${library} PRIVATE ${CMAKE_DL_LIBS})
endforeach()

kiln_python_test(program/command_line.py)
kiln_python_test(data/corpus_test.py)
kiln_python_test(program/determinism.py TIMEOUT 240)
kiln_python_test(program/replay.py)
kiln_python_test(mutation/optimizers.py TIMEOUT 20000 LABELS nightly)
kiln_python_test(program/kill_resume.py ARGS 20 1 TIMEOUT 240)
kiln_python_test(program/kill_resume.py NAME program/kill_resume_many ARGS 500 2 TIMEOUT 5000 LABELS nightly)
if(NOT KILN_SANITIZE)  # sanitizers bring allocators of their own
  kiln_python_test(program/memory_plan.py TIMEOUT 240)
endif()
