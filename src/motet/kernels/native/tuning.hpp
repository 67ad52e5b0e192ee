// How the matrix kernels go through memory. No choice here changes a bit of a result, only how long
// it takes, and processors differ in what is fastest: so it is decided once, from the processor,
// and benchmarks and tests may set it.
#pragma once
#include <algorithm>
#include <array>
#include <bit>

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
#elif MOTET_NEON
constexpr int PAIRED = 4;  // rows for which super-blocks are opened into memory
constexpr int MOST_STREAMS = 1;
constexpr int MOST_SUMS = 1;
#else
constexpr int PAIRED = 5;
constexpr int MOST_STREAMS = 1;  // computes for far longer than it waits
constexpr int MOST_SUMS = 1;
#endif

// What makes a walk through weights slow differs with how much is computed on each byte: by how
// weights are stored, and by how many rows of activations they meet.
enum Load : int { NIBBLES, BYTES, SUPERS, FLOATS, WORDS };
constexpr int LOADS = 5, HEIGHTS = 5;  // tiles of 1, 2, 4, 8 and 16 rows

// Bytes by which a strip is prefetched (0: not at all), and the level of the cache that it comes
// to.
struct Fetch {
  int bytes, level;
};
struct Walk {
  int strips;  // read side by side
  Fetch ahead;
};

using Heights = std::array<Walk, HEIGHTS>;

struct Tuning {
  std::array<Heights, LOADS> walks;
  // Independent int32 sums for each sum of products in tiles of many rows, 1 or 2: a dot product
  // waits for the one before it if both add to one register.
  int chains;
  // Whether words of BF16 are multiplied by the processor's own instruction for them.
  bool dots;

  const Walk& walk(Load load, int rows) const {
    return walks[load][std::min((int)std::bit_width((unsigned)rows), HEIGHTS) - 1];
  }
};

inline Tuning tuning_of_processor() {
  const bool dots = processor_has_dots();
  if (is_intel()) {
    // Measured on Emerald Rapids: one stream has too few cache lines on their way.
    constexpr Walk one{8, {512, 1}}, few{4, {512, 1}}, many{2, {0, 1}};
    constexpr Heights plain{one, few, few, many, many};
    constexpr Heights supers{few, few, few, many, many};
    return {{plain, plain, supers, plain, plain}, 2, dots};
  }
#if MOTET_AVX512
  // Measured on Zen 4: where little is computed its own prefetchers are best, some of them on four
  // streams. They fall behind where more is computed. Then instructions help that fetch from far
  // away into the second level: the first has too few lines on their way for that.
  constexpr Walk own{1, {0, 1}}, near{1, {6144, 2}}, far{1, {8192, 2}};
  constexpr Heights nibbles{own, far, far, far, far};
  constexpr Heights bytes{own, Walk{4, {1024, 2}}, near, far, far};
  constexpr Heights supers{own, near, far, far, far};
  constexpr Heights floats{Walk{4, {0, 1}}, Walk{4, {512, 1}}, far, far, far};
  constexpr Heights words{own, Walk{4, {1024, 2}}, own, far, far};
#else
  // Measured on Zen 3, whose own prefetchers leave a fifth to a third of the bandwidth unused.
  constexpr Walk one{4, {512, 1}}, few{4, {1024, 2}}, near{1, {6144, 2}}, far{1, {8192, 2}};
  constexpr Heights nibbles{one, few, near, far, far}, bytes{one, few, near, far, far};
  constexpr Heights supers{few, few, near, far, far}, floats{one, one, far, far, far};
  constexpr Heights words{one, one, few, far, far};
#endif
  return {{nibbles, bytes, supers, floats, words}, 1, dots};
}

inline Tuning& tuning() {
  static Tuning chosen = tuning_of_processor();
  return chosen;
}

// Strips whose sums have room in the registers; float weights have two sums for each, of the even
// and of the odd columns.
constexpr int most_streams(int rows) {
  return rows >= PAIRED ? std::min(2, MOST_STREAMS) : std::clamp(MOST_SUMS / rows, 1, MOST_STREAMS);
}
constexpr int most_float_streams(int rows) {
  return std::clamp(MOST_SUMS / 2 / rows, 1, MOST_STREAMS);
}

}  // namespace
