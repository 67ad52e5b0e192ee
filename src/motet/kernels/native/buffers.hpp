// Memory of large arrays that live for a call or a step: what is given back is kept for those who
// ask next. The system would hand out new pages, which it clears one by one.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

// With external linkage: all sources of a module share one.
class Reserve {
 public:
  Reserve() { kept_.reserve(MOST_PIECES); }  // so that giving back never fails

  // 64-byte aligned, not initialised. Throws std::bad_alloc.
  __attribute__((noinline)) void* take(size_t bytes) {
    const size_t size = size_for(bytes);
    if (void* data = size >= LEAST ? find(size) : nullptr) return data;
    void* data = aligned_alloc(64, size);
    if (!data) {
      drop_all();
      data = aligned_alloc(64, size);
    }
    if (!data) throw std::bad_alloc();
    return data;
  }

  // What was taken as so many bytes.
  __attribute__((noinline)) void give(void* data, size_t bytes) {
    const size_t size = size_for(bytes);
    if (size < LEAST) return free(data);
    const std::unique_lock<std::mutex> one(busy_, std::try_to_lock);
    if (!one) return free(data);
    if (kept_.size() == MOST_PIECES) drop_oldest();
    kept_.push_back({data, size});
    for (bytes_ += size; bytes_ > MOST_BYTES;) drop_oldest();
  }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr size_t LEAST = (size_t)-1;  // it is to see what is used after its time
#else
  static constexpr size_t LEAST = 64 << 10;
#endif
  static constexpr size_t MOST_BYTES = 128 << 20, MOST_PIECES = 64;

  // Kept memory of this size; null: there is none. Nobody waits for the lock: where a process was
  // forked while another thread had it, the child goes without.
  void* find(size_t size) {
    const std::unique_lock<std::mutex> one(busy_, std::try_to_lock);
    if (!one) return nullptr;
    for (size_t i = kept_.size(); i-- > 0;)
      if (kept_[i].size == size) {
        void* data = kept_[i].data;
        bytes_ -= size;
        kept_.erase(kept_.begin() + i);
        return data;
      }
    return nullptr;
  }

  void drop_all() {
    const std::unique_lock<std::mutex> one(busy_, std::try_to_lock);
    while (one && !kept_.empty()) drop_oldest();
  }
  void drop_oldest() {
    free(kept_.front().data);
    bytes_ -= kept_.front().size;
    kept_.erase(kept_.begin());
  }

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
  std::vector<Kept> kept_;  // the last one last
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
