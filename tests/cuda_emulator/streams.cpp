#include "tests/cuda_emulator/streams.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "tests/cuda_emulator/findings.h"

namespace kiln::emulator {

namespace {

// An operation that has run, from its first segment to that of the next.
struct Executed {
  uint32_t first_segment;
  int stream;
  uint64_t sequence;
  std::string name;
};

std::vector<Executed>& executed() {
  static auto* all = new std::vector<Executed>;
  return *all;
}

// Of each stream: sequence and first segment of what has run of it, both ascending.
std::map<int, std::vector<std::pair<uint64_t, uint32_t>>>& executed_of_stream() {
  static auto* all = new std::map<int, std::vector<std::pair<uint64_t, uint32_t>>>;
  return *all;
}

uint64_t known_of(const Known& known, int stream) {
  const auto found = known.find(stream);
  return found == known.end() ? 0 : found->second;
}

void join(Known& into, const Known& other) {
  for (const auto& [stream, sequence] : other) into[stream] = std::max(into[stream], sequence);
}

void join(Known& into, const Operation& operation) {
  join(into, operation.known);
  into[operation.stream] = std::max(into[operation.stream], operation.sequence);
}

const Executed& executed_at(uint32_t segment) {
  const auto after = std::upper_bound(executed().begin(), executed().end(), segment,
                                      [](uint32_t s, const Executed& e) { return s < e.first_segment; });
  return *std::prev(after);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Streams& Streams::instance() {
  static auto* streams = new Streams;
  return *streams;
}

Streams::Streams() : default_(std::make_unique<Stream>()) {}

Stream* Streams::create(bool blocking) {
  streams_.push_back(std::make_unique<Stream>());
  streams_.back()->number = next_number_++;
  streams_.back()->blocking = blocking;
  return streams_.back().get();
}

void Streams::destroy(Stream* stream) {
  // The host does not wait: what is still in the stream runs, but is not ordered before what the host does next.
  if (stream->last) {
    execute(stream->last);
    destroyed_.push_back(stream->last);
  }
  std::erase_if(streams_, [&](const auto& each) { return each.get() == stream; });
}

bool Streams::exists(const Stream* stream) const {
  return stream == default_.get() || std::any_of(streams_.begin(), streams_.end(),
                                                 [&](const auto& each) { return each.get() == stream; });
}

std::shared_ptr<Operation> Streams::add(Stream* stream, std::string name,
                                        std::function<void(const Operation&)> run,
                                        const std::shared_ptr<Operation>& also_after) {
  auto operation = std::make_shared<Operation>();
  operation->name = std::move(name);
  operation->run = std::move(run);
  operation->stream = stream->number;
  operation->sequence = ++stream->sequence;
  operation->known = host_;
  const auto wait = [&](const std::shared_ptr<Operation>& other) {
    if (!other) return;
    join(operation->known, *other);
    if (!other->done) operation->after.push_back(other);
  };
  wait(stream->last);
  wait(also_after);
  if (stream == default_.get()) {
    for (const auto& each : streams_) {
      if (each->blocking) wait(each->last);
    }
  } else if (stream->blocking) {
    wait(default_->last);
  }
  stream->last = operation;
  return operation;
}

void Streams::execute(const std::shared_ptr<Operation>& operation) {
  std::vector<std::shared_ptr<Operation>> stack{operation};
  while (!stack.empty()) {
    const std::shared_ptr<Operation> top = stack.back();
    const auto waits_for =
        std::find_if(top->after.begin(), top->after.end(), [](const auto& o) { return !o->done; });
    if (!top->done && waits_for != top->after.end()) {
      stack.push_back(*waits_for);
      continue;
    }
    stack.pop_back();
    if (top->done) continue;
    top->done = true;
    top->after.clear();
    if (top->run) {
      try {
        top->run(*top);
      } catch (const Finding& finding) {
        report(finding.what());
      }
      top->run = nullptr;
    }
    top->finished_at = now();
  }
}

void Streams::wait_for(const std::shared_ptr<Operation>& operation) {
  if (!operation) return;
  execute(operation);
  join(host_, *operation);
}

void Streams::wait_for_all() {
  wait_for(default_->last);
  for (size_t i = 0; i < streams_.size(); ++i) wait_for(streams_[i]->last);
  for (const auto& each : destroyed_) wait_for(each);
  destroyed_.clear();
}

void Streams::note_host_memory(const Operation& operation, const void* memory, size_t bytes) {
  forget_finished();
  host_memory_.push_back(
      {reinterpret_cast<uint64_t>(memory), bytes, operation.name, operation.stream, operation.sequence});
}

void Streams::forget_finished() {
  std::erase_if(host_memory_,
                [&](const HostMemory& each) { return each.sequence <= known_of(host_, each.stream); });
}

std::string Streams::pending_on(const void* memory, size_t bytes) {
  forget_finished();
  const uint64_t begin = reinterpret_cast<uint64_t>(memory);
  const auto found = std::find_if(host_memory_.begin(), host_memory_.end(), [&](const HostMemory& each) {
    return begin < each.begin + each.bytes && each.begin < begin + bytes;
  });
  return found == host_memory_.end() ? "" : found->operation;
}

uint32_t History::begin() const {
  const uint32_t first = take_segment();
  executed().push_back({first, operation_.stream, operation_.sequence, operation_.name});
  executed_of_stream()[operation_.stream].emplace_back(operation_.sequence, first);
  return first;
}

uint32_t History::ordered_end() const {
  uint32_t end = UINT32_MAX;
  for (const auto& [stream, all] : executed_of_stream()) {
    const uint64_t known = known_of(operation_.known, stream);
    const auto unordered = std::upper_bound(all.begin(), all.end(), std::pair(known, UINT32_MAX));
    if (unordered != all.end()) end = std::min(end, unordered->second);
  }
  return end;
}

bool History::is_ordered(uint32_t segment) const {
  if (segment <= record::kHostSegment || executed().empty() || segment < executed().front().first_segment)
    return true;
  const Executed& other = executed_at(segment);
  return other.sequence <= known_of(operation_.known, other.stream);
}

std::string History::name(uint32_t segment) const {
  if (executed().empty() || segment < executed().front().first_segment) return "the host";
  return executed_at(segment).name;
}

}  // namespace kiln::emulator
