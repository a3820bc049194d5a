# kiln_compile_options(target): the warnings and flags that all of Kiln's own code is compiled with.
function(kiln_compile_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wpedantic -Werror
                                           -fno-math-errno -ffp-contract=off)
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  if(KILN_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${KILN_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
                                             -O1  # a third less time to build than with -O2
                                             $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)  # false alarms in GCC's AVX-512 headers
    target_link_options(${target} PUBLIC -fsanitize=${KILN_SANITIZE})
  endif()
endfunction()

# kiln_compile_together(target): five source files make one unit of compilation. nlohmann/json, CLI11 and GoogleTest, which
# are headers alone, are then parsed and instantiated once for five files, which halves the time to build. KILN_UNITY=OFF
# compiles each file by itself, which is quicker where one file changes again and again (tests/mutation).
function(kiln_compile_together target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${KILN_UNITY} UNITY_BUILD_BATCH_SIZE 5)
endfunction()

# kiln_room(name folder [ROOMS rooms it stands on] [LINK libraries]): a static library of every .cpp in the folder.
function(kiln_room name folder)
  cmake_parse_arguments(ROOM "" "" "ROOMS;LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cpp)
  kiln_choose_cuda_files(sources)
  add_library(kiln_${name} STATIC ${sources})
  kiln_compile_options(kiln_${name})
  list(TRANSFORM ROOM_ROOMS PREPEND kiln_)
  target_link_libraries(kiln_${name} PUBLIC ${ROOM_ROOMS} ${ROOM_LINK})
  kiln_compile_together(kiln_${name})
endfunction()

# kiln_families(): the families of models. Each is a header of models/families, NAME.h with NAME::kFamily; their list is made
# from the files, so that one more family is one more file.
function(kiln_families)
  set(folder models/families)
  file(GLOB headers RELATIVE ${PROJECT_SOURCE_DIR}/${folder} CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.h)
  list(REMOVE_ITEM headers family.h list.h)
  set(includes "")
  set(entries "")
  set(names "")
  foreach(header IN LISTS headers)
    string(REGEX REPLACE "\\.h$" "" name ${header})
    if(NOT name MATCHES "^[a-z][a-z0-9_]*$")
      message(FATAL_ERROR "${folder}/${header}: the file of a family has the family's name: small letters, digits and _, then .h")
    endif()
    string(APPEND includes "#include \"${folder}/${header}\"\n")
    string(APPEND entries "    ${name}::kFamily,\n")
    string(APPEND names "static_assert(std::string_view(${name}::kFamily.name) == \"${name}\");\n")
  endforeach()
  configure_file(${PROJECT_SOURCE_DIR}/cmake/families.cpp.in families/all.cpp @ONLY)
  kiln_room(families ${folder} ROOMS core)
  target_sources(kiln_families PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/families/all.cpp)
endfunction()

# kiln_kernels(): the kernels. For the CPU each file of kernels/cpu is compiled once per instruction set, in a namespace of
# its own (KILN_ISA), and the table in kernels/table.cpp picks at start; files of kernels/cpu/common are compiled once. For CUDA
# see cmake/cuda.cmake.
function(kiln_kernels)
  file(GLOB contracts CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.cpp ${PROJECT_SOURCE_DIR}/kernels/cpu/common/*.cpp)
  file(GLOB variants CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cpu/*.cpp)
  add_library(kiln_kernels STATIC ${contracts})
  kiln_compile_options(kiln_kernels)
  if(KILN_HAS_CUDA)
    file(GLOB host CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cpp)
    kiln_cuda_objects(objects)
    target_sources(kiln_kernels PRIVATE ${host} ${objects})
    target_compile_definitions(kiln_kernels PRIVATE KILN_HAS_CUDA)
    kiln_compile_options(kiln_cublaslt_loader)
    target_link_libraries(kiln_kernels PUBLIC kiln_cublaslt)
  endif()
  target_link_libraries(kiln_kernels PUBLIC kiln_device PRIVATE kiln_onednn kiln_blas)
  set(isas baseline)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    list(APPEND isas avx2 avx512)
  endif()
  set(flags_baseline "")
  set(flags_avx2 -march=x86-64-v3 -mtune=haswell)
  set(flags_avx512 -march=x86-64-v4 -mtune=skylake-avx512 -mprefer-vector-width=512)
  foreach(isa IN LISTS isas)
    add_library(kiln_kernels_${isa} OBJECT ${variants})
    kiln_compile_options(kiln_kernels_${isa})
    # Contraction to fused multiply-add is wanted inside kernels: one machine kind always takes the same path.
    target_compile_options(kiln_kernels_${isa} PRIVATE ${flags_${isa}} -O3 -ffp-contract=fast -fno-trapping-math)
    target_compile_definitions(kiln_kernels_${isa} PRIVATE KILN_ISA=${isa})
    target_link_libraries(kiln_kernels_${isa} PUBLIC kiln_device)
    target_sources(kiln_kernels PRIVATE $<TARGET_OBJECTS:kiln_kernels_${isa}>)
    string(TOUPPER ${isa} upper)
    target_compile_definitions(kiln_kernels PRIVATE KILN_HAS_${upper})
  endforeach()
endfunction()
