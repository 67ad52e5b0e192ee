// Memory for weights, in large pages: a product walks through all of it, and a walk through small
// pages waits for their addresses too.
#pragma once
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>

namespace {

// Hands out pieces of chunks; a chunk lives as long as one of its pieces.
class Arena {
 public:
  std::shared_ptr<uint8_t> allocate(int64_t bytes) {
    const int64_t size = (bytes + 63) / 64 * 64;
    if (size > CHUNK / 4) return chunk_of((size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    std::lock_guard<std::mutex> one(busy_);
    if (!chunk_ || used_ + size > CHUNK) {
      chunk_ = chunk_of(CHUNK);
      used_ = 0;
    }
    uint8_t* piece = chunk_.get() + used_;
    used_ += size;
    return {chunk_, piece};
  }

 private:
  static constexpr int64_t HUGE_PAGE = 2 << 20, CHUNK = 16 * HUGE_PAGE;

  static std::shared_ptr<uint8_t> chunk_of(int64_t size) {
    auto* data = (uint8_t*)aligned_alloc(HUGE_PAGE, size);
    if (!data) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(data, size, MADV_HUGEPAGE);
#endif
    return {data, free};
  }

  std::mutex busy_;
  std::shared_ptr<uint8_t> chunk_;
  int64_t used_ = 0;
};

}  // namespace
