// Streams and events, and what is left of everything at the end of the process.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "tests/cuda_emulator/copies.h"
#include "tests/cuda_emulator/runtime.h"

using namespace kiln::emulator;

namespace {

std::vector<std::unique_ptr<Event>>& events() {
  static auto* all = new std::vector<std::unique_ptr<Event>>;
  return *all;
}

std::vector<std::string (*)()>& other_leaks() {
  static auto* all = new std::vector<std::string (*)()>;
  return *all;
}

Event* event_of(cudaEvent_t handle) {
  auto* event = reinterpret_cast<Event*>(handle);
  const bool exists =
      std::any_of(events().begin(), events().end(), [&](const auto& e) { return e.get() == event; });
  if (!exists) throw Finding("an event that does not exist (any more)");
  return event;
}

bool is_default(cudaStream_t handle) {
  return handle == nullptr || handle == cudaStreamLegacy;
}

void report_leaks() {
  Streams::instance().wait_for_all();
  std::string text;
  const std::vector<const Allocation*> leaked = DeviceMemory::instance().leaked();
  for (size_t i = 0; i < leaked.size() && i < 8; ++i) {
    text += fmt::format("\n  allocation {} of {} bytes", leaked[i]->number, leaked[i]->bytes);
  }
  if (leaked.size() > 8) text += fmt::format("\n  and {} more", leaked.size() - 8);
  if (pinned_count() > 0) text += fmt::format("\n  {} pinned host allocations", pinned_count());
  if (Streams::instance().count() > 0) text += fmt::format("\n  {} streams", Streams::instance().count());
  if (!events().empty()) text += fmt::format("\n  {} events", events().size());
  for (const auto leaks : other_leaks()) text += leaks();
  if (!text.empty()) report("leaked at exit:" + text);
}

// Registered before anything that the program registers, so that it runs after all of it.
__attribute__((constructor(101))) void watch_exit() {
  std::atexit(report_leaks);
}

}  // namespace

namespace kiln::emulator {

void report_leaks_of(std::string (*leaks)()) {
  other_leaks().push_back(leaks);
}

Stream* stream_of(cudaStream_t handle) {
  if (is_default(handle)) return Streams::instance().default_stream();
  auto* stream = reinterpret_cast<Stream*>(handle);
  if (!Streams::instance().exists(stream)) throw Finding("a stream that does not exist (any more)");
  return stream;
}

}  // namespace kiln::emulator

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned int flags) {
  if (const cudaError_t error = device_error(); error != cudaSuccess) return set_error(error);
  *handle = reinterpret_cast<cudaStream_t>(Streams::instance().create((flags & cudaStreamNonBlocking) == 0));
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* handle) {
  return cudaStreamCreateWithFlags(handle, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* handle, unsigned int flags, int) {
  return cudaStreamCreateWithFlags(handle, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return guarded([&] {
    if (is_default(handle)) throw Finding("cudaStreamDestroy of the default stream");
    Streams::instance().destroy(stream_of(handle));
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return guarded([&] { Streams::instance().wait_for(stream_of(handle)->last); });
}

// The first question finds the stream at work; then its work is done, so that a program that asks again goes on.
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  bool ready = true;
  const cudaError_t error = guarded([&] {
    const auto& last = stream_of(handle)->last;
    ready = !last || last->done;
    Streams::instance().wait_for(last);
  });
  return error != cudaSuccess || ready ? error : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned int) {
  return guarded([&] {
    const auto& recorded = event_of(event)->recorded;
    if (recorded) Streams::instance().add(stream_of(handle), "a wait for an event", nullptr, recorded);
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return guarded([&] {
    Streams::instance().add(stream_of(handle), "a host function", [=](const Operation&) { function(data); });
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned int) {
  if (const cudaError_t error = device_error(); error != cudaSuccess) return set_error(error);
  events().push_back(std::make_unique<Event>());
  *handle = reinterpret_cast<cudaEvent_t>(events().back().get());
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* handle) {
  return cudaEventCreateWithFlags(handle, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  return guarded([&] {
    Event* event = event_of(handle);
    std::erase_if(events(), [&](const auto& each) { return each.get() == event; });
  });
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream) {
  return guarded(
      [&] { event_of(handle)->recorded = Streams::instance().add(stream_of(stream), "an event", nullptr); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return guarded([&] { Streams::instance().wait_for(event_of(handle)->recorded); });
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  bool ready = true;
  const cudaError_t error = guarded([&] {
    const auto& recorded = event_of(handle)->recorded;
    ready = !recorded || recorded->done;
    Streams::instance().wait_for(recorded);
  });
  return error != cudaSuccess || ready ? error : cudaErrorNotReady;
}

// Time that the emulator took, which says nothing about a GPU.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return guarded([&] {
    const auto &first = event_of(start)->recorded, &last = event_of(end)->recorded;
    if (!first || !last || !first->done || !last->done)
      throw Finding("cudaEventElapsedTime of events not yet reached");
    *milliseconds = static_cast<float>(1e3 * (last->finished_at - first->finished_at));
  });
}

}  // extern "C"
