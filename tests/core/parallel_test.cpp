#include "src/core/parallel.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/core/error.h"

namespace kiln {
namespace {

constexpr int64_t kLengths[] = {0, 1, 2, 3, 7, 64, 97, 1000, 4099};
constexpr int64_t kGrains[] = {1, 2, 3, 16, 97, 1000, 5000};
constexpr int kThreads[] = {1, 2, 3, 5};

TEST(Parallel, CoversEveryIndexOnceInChunksOfTheGrain) {
  for (int threads : kThreads) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    for (int64_t n : kLengths) {
      for (int64_t grain : kGrains) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(n));
        std::atomic<int64_t> wrong{0};
        pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int worker) {
          // The chunk is named by its position alone, whatever the number of threads.
          if (begin % grain != 0 || end != std::min(begin + grain, n)) wrong++;
          if (worker < 0 || worker >= threads) wrong++;
          for (int64_t i = begin; i < end; i++) visits[static_cast<size_t>(i)]++;
        });
        EXPECT_EQ(wrong, 0) << "threads=" << threads << " n=" << n << " grain=" << grain;
        EXPECT_TRUE(std::all_of(visits.begin(), visits.end(), [](const auto& v) { return v == 1; }))
            << "threads=" << threads << " n=" << n << " grain=" << grain;
      }
    }
  }
}

// Each chunk lasts long enough for the others to run beside it.
TEST(Parallel, WorkersNeverShareANumberAtTheSameTime) {
  ThreadPool pool(3);
  std::vector<std::atomic<int>> inside(3);
  std::atomic<int> clashes{0};
  pool.parallel_for(300, 1, [&](int64_t, int64_t, int worker) {
    if (inside[static_cast<size_t>(worker)].fetch_add(1) != 0) clashes++;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    inside[static_cast<size_t>(worker)]--;
  });
  EXPECT_EQ(clashes, 0);
}

// Two chunks that wait for each other finish only if two threads run them.
TEST(Parallel, RunsAtTheSameTime) {
  ThreadPool pool(2);
  std::atomic<int> arrived{0};
  std::set<std::thread::id> threads;
  std::mutex mutex;
  pool.parallel_for(2, 1, [&](int64_t, int64_t, int) {
    {
      std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
    }
    arrived++;
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (arrived < 2 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  });
  EXPECT_EQ(threads.size(), 2u);
}

// The caller must see everything that the workers wrote with plain stores, and they what it wrote before.
TEST(Parallel, ResultsAreVisibleToTheCaller) {
  ThreadPool pool(3);
  std::vector<int64_t> values(5000);
  for (int round = 0; round < 200; round++) {
    pool.parallel_for(5000, 100, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) values[static_cast<size_t>(i)] += i + round;
    });
    values[0]++;
  }
  for (int64_t i = 1; i < 5000; i++) ASSERT_EQ(values[static_cast<size_t>(i)], 200 * i + 199 * 100);
  EXPECT_EQ(values[0], 199 * 100 + 200);
}

TEST(Parallel, ChunkSumsInOrderAreDeterministic) {
  const auto sum = [](int threads) {
    ThreadPool pool(threads);
    std::vector<float> parts(100);
    pool.parallel_for(100 * 37 - 5, 37, [&](int64_t begin, int64_t end, int) {
      float part = 0;
      for (int64_t i = begin; i < end; i++) part += 1.0f / static_cast<float>(i + 1);
      parts[static_cast<size_t>(begin / 37)] = part;
    });
    return std::accumulate(parts.begin(), parts.end(), 0.0f);
  };
  const float one = sum(1);
  for (int round = 0; round < 5; round++) {
    for (int threads : {2, 3, 7}) EXPECT_EQ(sum(threads), one);
  }
}

TEST(Parallel, ExceptionsReachTheCaller) {
  for (int threads : kThreads) {
    ThreadPool pool(threads);
    for (int64_t at : {0, 1, 50, 99}) {
      std::string caught;
      try {
        pool.parallel_for(100, 1, [&](int64_t begin, int64_t, int) {
          if (begin == at) throw std::runtime_error(fmt::format("chunk {}", at));
        });
      } catch (const std::runtime_error& error) {
        caught = error.what();
      }
      EXPECT_EQ(caught, fmt::format("chunk {}", at));
      // The pool goes on as if nothing had happened.
      std::atomic<int64_t> covered{0};
      pool.parallel_for(1000, 7, [&](int64_t begin, int64_t end, int) { covered += end - begin; });
      EXPECT_EQ(covered, 1000);
    }
  }
}

// The other thread may finish some chunks before the exception arrives, but not seconds' worth of them.
TEST(Parallel, ExceptionStopsTheRest) {
  ThreadPool pool(2);
  std::atomic<int64_t> ran{0};
  EXPECT_THROW(pool.parallel_for(100000, 1,
                                 [&](int64_t begin, int64_t, int) {
                                   if (begin == 0) throw std::runtime_error("first");
                                   std::this_thread::sleep_for(std::chrono::microseconds(100));
                                   ran++;
                                 }),
               std::runtime_error);
  EXPECT_LT(ran, 99999);
}

// More threads than some machines have cores: a job then costs a change of threads, so the test watches the
// clock.
TEST(Parallel, ManyTinyJobs) {
  for (int threads : {2, 3, 5}) {
    ThreadPool pool(threads);
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    for (int64_t job = 0; job < 20000 && (job < 300 || std::chrono::steady_clock::now() < give_up); job++) {
      const int64_t n = 1 + job % 7;
      std::atomic<int64_t> sum{0};
      pool.parallel_for(n, 1, [&](int64_t begin, int64_t, int) { sum += begin + 1; });
      ASSERT_EQ(sum, n * (n + 1) / 2) << "job " << job;
    }
  }
}

// Threads that went to sleep wake up again: jobs apart by more than the spinning lasts, of every length of
// pause around the moment of falling asleep.
TEST(Parallel, SleepingThreadsWakeUp) {
  ThreadPool pool(3);
  for (int pause = 0; pause < 120; pause++) {
    std::this_thread::sleep_for(std::chrono::microseconds(pause * 10));
    std::atomic<int64_t> covered{0};
    pool.parallel_for(64, 1, [&](int64_t begin, int64_t end, int) { covered += end - begin; });
    ASSERT_EQ(covered, 64);
  }
}

TEST(Parallel, PoolsComeAndGo) {
  for (int round = 0; round < 200; round++) {
    ThreadPool pool(1 + round % 4);
    if (round % 3 == 0) continue;  // destroyed without ever working
    std::atomic<int> covered{0};
    pool.parallel_for(10, 1, [&](int64_t, int64_t, int) { covered++; });
    ASSERT_EQ(covered, 10);
  }
}

TEST(Parallel, NeedsAThread) {
  EXPECT_THROW(ThreadPool(0), Error);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which take address space without end

// Leaves this process 256 MiB more address space than it has, far less than the stacks of a thousand threads
// take at any usual size of a stack; asks for that many; says on stderr what came of it; exits with 0 when
// the threads that did start have ended and a small pool works.
[[noreturn]] void ask_for_too_many_threads() {
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const auto bytes = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + (int64_t{256} << 20));
  const rlimit limit = {bytes, bytes};
  if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(2);
  try {
    ThreadPool pool(1000);
    _exit(3);
  } catch (const Error& error) {
    fmt::print(stderr, "code {}: {}\n{}\n", static_cast<int>(error.code()), error.what(), error.hint());
  }
  // A thread that was joined may be listed for an instant longer.
  const auto tasks = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}); };
  for (int wait = 0; tasks() > 1 && wait < 1000; wait++) usleep(10'000);
  ThreadPool pool(2);
  std::atomic<int64_t> covered{0};
  pool.parallel_for(10, 1, [&](int64_t begin, int64_t end, int) { covered += end - begin; });
  _exit(tasks() == 2 && covered == 10 ? 0 : 4);
}

TEST(ParallelDeathTest, ThreadsThatTheSystemRefusesAreAnError) {
  EXPECT_EXIT(ask_for_too_many_threads(), ::testing::ExitedWithCode(0),
              "code 4: cannot start 1000 threads: after [1-9][0-9]* the system refuses another .*\n"
              "lower device.threads to at most [1-9][0-9]*, or raise");
}

#endif

TEST(Parallel, EmptyRangeCallsNothing) {
  ThreadPool pool(2);
  for (int64_t n : {0, -1, -100}) {
    pool.parallel_for(n, 1, [](int64_t, int64_t, int) { FAIL(); });
  }
}

TEST(Parallel, GrainBelowOneCountsAsOne) {
  ThreadPool pool(2);
  std::atomic<int> chunks{0};
  pool.parallel_for(9, 0, [&](int64_t begin, int64_t end, int) { chunks += end - begin == 1; });
  EXPECT_EQ(chunks, 9);
}

}  // namespace
}  // namespace kiln
