#include "tests/cuda_emulator/libraries/objects.h"

#include <fmt/format.h>

#include <map>

#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/runtime.h"

namespace kiln::emulator {

namespace {

struct Object {
  const char* kind;
  bool alive;
};

std::string leaks();

std::map<const void*, Object>& objects() {
  static auto* all = [] {
    report_leaks_of(leaks);
    return new std::map<const void*, Object>;
  }();
  return *all;
}

std::string leaks() {
  std::map<std::string, int> left;
  for (const auto& [pointer, object] : objects()) left[object.kind] += object.alive ? 1 : 0;
  std::string text;
  for (const auto& [kind, count] : left) {
    if (count > 0) text += fmt::format("\n  {} {}", count, kind);
  }
  return text;
}

}  // namespace

void add_object(const void* object, const char* kind) {
  objects()[object] = {kind, true};
}

bool is_object(const void* object, const char* kind) {
  const auto found = objects().find(object);
  return found != objects().end() && found->second.kind == std::string(kind);
}

void require_object(const void* object, const char* kind) {
  if (!is_object(object, kind)) throw Finding(fmt::format("a pointer that is none of the {}", kind));
  if (!objects().at(object).alive)
    throw Finding(fmt::format("one of the {} that was destroyed before", kind));
}

void remove_object(const void* object, const char* kind) {
  require_object(object, kind);
  objects().at(object).alive = false;
}

}  // namespace kiln::emulator
