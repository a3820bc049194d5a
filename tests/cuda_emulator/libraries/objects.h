// Handles and descriptors that a library hands out as opaque pointers: whether they exist, still or at all, and what is
// left of them at the end of the process. What was destroyed keeps its memory, so that no address means two things.
#pragma once

#include <memory>
#include <string>

namespace kiln::emulator {

// `kind` in the plural, as in "2 cuBLASLt handles are left"; the same pointer for all of one kind.
void add_object(const void* object, const char* kind);
// A finding if that is no object of this kind, or one that was destroyed.
void require_object(const void* object, const char* kind);
void remove_object(const void* object, const char* kind);
bool is_object(const void* object, const char* kind);  // alive or destroyed

template <class T>
T* make_object(const char* kind) {
  T* made = new T();
  add_object(made, kind);
  return made;
}

}  // namespace kiln::emulator
