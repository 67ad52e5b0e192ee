// A pool of threads that share out small pieces of one job at a time.
//
// A job is done when its pieces are: nobody waits for a thread that has not taken one, so a thread
// that the system has put aside costs nothing. Threads look out for work for a short while, then
// sleep; the caller takes pieces too.
#pragma once
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "processor.hpp"

// These have external linkage: all sources of a module share one pool and one count of forks.

// How many forks lie between this process and the one that loaded the module: a child has none of
// its parent's threads, and a lock that one of them held stays locked in it.
struct Forks {
  Forks() { pthread_atfork(nullptr, nullptr, in_child); }
  static void in_child();
  std::atomic<uint64_t> count{0};
  std::mutex renewing;  // pools, in a child
};
inline Forks forks;

inline void Forks::in_child() {
  forks.count.fetch_add(1);
  new (&forks.renewing) std::mutex;
}

// Floats as IEEE has them, to nearest and with subnormals, whatever a library has set for the
// caller (what is built with -ffast-math flushes subnormals in the thread that loads it).
struct PlainFloats {
  PlainFloats() : before(float_mode()) { set_float_mode(PLAIN_FLOATS); }
  ~PlainFloats() { set_float_mode(before); }
  PlainFloats(const PlainFloats&) = delete;
  const FloatMode before;
};

// The calling thread, from now on; where the system refuses that, it goes where it likes.
inline void stay_on(int processor) {
#ifdef __linux__
  if (processor < 0 || processor >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
#else
  (void)processor;  // macOS places threads by itself
#endif
}

// The threads of a pool, in the process that started them.
class Crew {
 public:
  // Starts `threads` - 1, or as many as the system allows; thread i stays on processors[i], if
  // there is one.
  Crew(int threads, std::vector<int> processors) : processors(std::move(processors)) {
    workers_.reserve(threads);
    try {
      for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error&) {  // no thread is to be had
    } catch (const std::bad_alloc&) {
    }
  }
  ~Crew() {
    stop_.store(true);
    announce();
    for (auto& worker : workers_) worker.join();
  }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  int threads() const { return (int)workers_.size() + 1; }

  // As ThreadPool::run.
  template <class Function>
  void run(int64_t pieces, const Function& f) {
    if (pieces <= 0) return;
    const PlainFloats plain;
    if (pieces == 1 || workers_.empty()) {
      for (int64_t i = 0; i < pieces; i++) f((int)i, 0);
      return;
    }
    std::lock_guard<std::mutex> one_job(busy_);
    // A ticket has 24 bits for the number of pieces.
    for (int64_t start = 0; start < pieces; start += MOST) {
      const int64_t count = pieces - start < MOST ? pieces - start : MOST;
      struct Shifted {
        const Function& f;
        int64_t start;
      } shifted{f, start};
      call_ = [](const void* data, int piece, int thread) {
        auto& s = *(const Shifted*)data;
        s.f((int)(s.start + piece), thread);
      };
      data_ = &shifted;
      done_.store(0, std::memory_order_relaxed);
      generation_ = (generation_ + 1) & 0xffff;
      ticket_.store(generation_ << 48 | (uint64_t)count << 24);
      announce();
      take(0);
      wait_for(count);
      if (failed_.load()) {
        failed_.store(false);
        std::rethrow_exception(std::exchange(failure_, nullptr));
      }
    }
  }

  const uint64_t born = forks.count.load();
  const std::vector<int> processors;

 private:
  static constexpr int64_t MOST = (1 << 24) - 65536;  // the rest: threads that find no piece left
  static constexpr int SPINS = 4000;                  // some tens of microseconds

  // The ticket holds generation, number of pieces and next piece in one word, so that a thread
  // that comes late learns from the same load whether there is a piece for it and of which job.
  void take(int thread) {
    for (;;) {
      const uint64_t ticket = ticket_.fetch_add(1);
      const int64_t pieces = ticket >> 24 & 0xffffff, piece = ticket & 0xffffff;
      if (piece >= pieces) return;
      try {
        call_(data_, (int)piece, thread);
      } catch (...) {
        if (!failed_.exchange(true)) failure_ = std::current_exception();
      }
      if (done_.fetch_add(1) + 1 == pieces) done_.notify_one();
    }
  }

  void announce() {
    epoch_.fetch_add(1);
    if (sleepers_.load() > 0) epoch_.notify_all();
  }

  void wait_for(int64_t pieces) {
    for (int spin = 0;; spin++) {
      const int32_t done = done_.load();
      if (done == pieces) return;
      // A thread holds a piece and may have lost its core to another program: give it ours.
      if (spin > SPINS)
        done_.wait(done);
      else
        relax();
    }
  }

  void work(int thread) {
    uint32_t seen = 0;
    if (thread < (int)processors.size()) stay_on(processors[thread]);
    set_float_mode(PLAIN_FLOATS);  // a thread begins with that of the one that made it
    while (!stop_.load()) {
      for (int spin = 0; spin < SPINS && epoch_.load() == seen; spin++) relax();
      if (epoch_.load() == seen) {
        sleepers_.fetch_add(1);
        epoch_.wait(seen);
        sleepers_.fetch_sub(1);
      }
      seen = epoch_.load();
      take(thread);
    }
  }

  std::mutex busy_;
  void (*call_)(const void*, int, int) = nullptr;
  const void* data_ = nullptr;
  uint64_t generation_ = 0;
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int32_t> done_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> failed_{false};
  std::exception_ptr failure_;  // of the first piece that failed
  std::vector<std::thread> workers_;
};

class ThreadPool {
 public:
  // Of `threads` threads, the caller's among them, or of fewer where the system allows no more. All
  // but the caller's (thread 0) stay on the processors that are named for them.
  explicit ThreadPool(int threads, std::vector<int> processors = {})
      : crew_(new Crew(threads, std::move(processors))) {}
  ~ThreadPool() {
    Crew* crew = crew_.load();
    if (crew->born == forks.count.load()) delete crew;
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return crew_.load()->threads(); }

  // Call f(piece, thread) for each piece; which thread takes a piece must not matter to the result.
  // `thread` is below threads(), for scratch memory. What a piece throws is thrown here, after all
  // others are done.
  template <class Function>
  void run(int64_t pieces, const Function& f) {
    crew().run(pieces, f);
  }

 private:
  Crew& crew() {
    Crew* crew = crew_.load();
    if (crew->born == forks.count.load()) return *crew;
    std::lock_guard<std::mutex> one(forks.renewing);
    crew = crew_.load();
    if (crew->born != forks.count.load()) {
      // The old one stays as the fork found it: its threads, for which it would wait, are not here.
      // The new one is not larger: scratch memory may have been made already.
      crew = new Crew(crew->threads(), crew->processors);
      crew_.store(crew);
    }
    return *crew;
  }

  std::atomic<Crew*> crew_;
};
