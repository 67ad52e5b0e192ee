// How the matrix kernels go through memory. No choice here changes a bit of a result, only how long
// it takes, and processors differ in what is fastest: so it is decided once, from the processor,
// and benchmarks and tests may set it.
#pragma once
#include <algorithm>
#include <array>

#include "bf16.hpp"

namespace {

#if MOTET_AVX512
constexpr int PAIRED = 8;  // rows from which on a kernel shares activations between two strips
constexpr int MOST_STREAMS = 8;  // strips side by side
constexpr int MOST_SUMS = 16;    // strips × rows whose sums are in registers
#elif MOTET_AVX2
constexpr int PAIRED = 5;  // tiles are of 4 rows at most
constexpr int MOST_STREAMS = 4;
constexpr int MOST_SUMS = 4;
#else
constexpr int PAIRED = 5;
constexpr int MOST_STREAMS = 1;  // computes for far longer than it waits
constexpr int MOST_SUMS = 1;
#endif

constexpr int TUNED = 4;
struct Tuning {
  // For tiles of 1, 2 and 4 rows, and for weights in super-blocks: strips that are read
  // side by side, and bytes by which each is prefetched (0: not at all).
  std::array<int, TUNED> streams;
  std::array<int, TUNED> ahead;
  // Independent int32 sums for each sum of products in tiles of many rows, 1 or 2: a dot product
  // waits for the one before it if both add to one register.
  int chains;
  // Whether words of BF16 are multiplied by the processor's own instruction for them.
  bool dots;
};

inline Tuning tuning_of_processor() {
  __builtin_cpu_init();
  const bool dots = processor_has_dots();
  // Measured on Emerald Rapids: one stream has too few cache lines on their way.
  if (__builtin_cpu_is("intel")) return {{8, 4, 4, 4}, {512, 512, 512, 512}, 2, dots};
  // Measured on Zen 4: its own prefetchers are best on one stream, unless so much is computed on
  // each block that they fall behind.
  return {{1, 1, 4, 1}, {0, 0, 512, 0}, 1, dots};
}

inline Tuning& tuning() {
  static Tuning chosen = tuning_of_processor();
  return chosen;
}

// Which entry of a tuning is for tiles of so many rows, of weights in super-blocks or not.
constexpr int tuning_entry(int rows, bool super) { return super ? 3 : rows / 2; }

// Strips whose sums have room in the registers; float weights have two sums for each, of the even
// and of the odd columns.
constexpr int most_streams(int rows) {
  return rows >= PAIRED ? 2 : std::clamp(MOST_SUMS / rows, 1, MOST_STREAMS);
}
constexpr int most_float_streams(int rows) {
  return std::clamp(MOST_SUMS / 2 / rows, 1, MOST_STREAMS);
}

}  // namespace
