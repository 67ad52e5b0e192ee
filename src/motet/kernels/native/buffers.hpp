// Memory of large arrays that live for a call or a step: what is given back is kept for those who
// ask next. The system would hand out new pages, which it clears one by one.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <new>

// With external linkage: all sources of a module share one.
class Reserve {
 public:
  // 64-byte aligned, not initialised. Throws std::bad_alloc.
  __attribute__((noinline)) void* take(size_t bytes) {
    const size_t size = size_for(bytes);
    if (size >= LEAST) {
      const std::unique_lock<std::mutex> one(busy_, std::try_to_lock);
      auto found = kept_.end();
      if (one)
        found = std::find_if(kept_.begin(), kept_.end(), [&](auto& k) { return k.size == size; });
      if (found != kept_.end()) {
        void* data = found->data;
        bytes_ -= size;
        kept_.erase(found);
        return data;
      }
    }
    void* data = aligned_alloc(64, size);
    if (!data) throw std::bad_alloc();
    return data;
  }

  // What was taken as so many bytes.
  __attribute__((noinline)) void give(void* data, size_t bytes) {
    const size_t size = size_for(bytes);
    if (size >= LEAST) {
      // Where a process was forked while another thread had the lock, the child goes without.
      const std::unique_lock<std::mutex> one(busy_, std::try_to_lock);
      if (one) {
        kept_.push_front({data, size});
        for (bytes_ += size; bytes_ > MOST_KEPT; kept_.pop_back()) {
          free(kept_.back().data);
          bytes_ -= kept_.back().size;
        }
        return;
      }
    }
    free(data);
  }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr size_t LEAST = (size_t)-1;  // it is to see what is used after its time
#else
  static constexpr size_t LEAST = 64 << 10;
#endif
  static constexpr size_t MOST_KEPT = 128 << 20;

  // Rounded up by an eighth at most, so that arrays of nearly the same size have each other's
  // memory.
  static size_t size_for(size_t bytes) {
    if (bytes > PTRDIFF_MAX) throw std::bad_alloc();
    size_t step = 64;
    while (step < bytes / 16) step *= 2;
    return (std::max<size_t>(bytes, 1) + step - 1) / step * step;
  }

  struct Kept {
    void* data;
    size_t size;
  };

  std::mutex busy_;
  std::deque<Kept> kept_;  // the last one first
  size_t bytes_ = 0;
};

inline Reserve& reserve() {
  static Reserve& one = *new Reserve;  // arrays may outlive the module
  return one;
}

template <class T>
struct Buffer {  // 64-byte aligned, not initialised
  explicit Buffer(int64_t count)
      : p((T*)reserve().take(count * sizeof(T))), bytes_(count * sizeof(T)) {}
  ~Buffer() { reserve().give(p, bytes_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* p;

 private:
  size_t bytes_;
};
