// Rows of x rounded to bytes, a tile after another.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "buffers.hpp"
#include "layouts.hpp"
#include "threads.hpp"
#if MOTET_TILES
#include "linear_tiles.hpp"
#endif

namespace {

#if MOTET_AVX512 || MOTET_NEON
constexpr int TILE = 16;  // rows of x that a kernel works on together
#else
constexpr int TILE = 4;
#endif

// Rows of x are cut into tiles of TILE, then of half as many and so on (before all, tall ones where
// there is a matrix unit); values of a tile are interleaved so that a kernel walks through one
// stream.
struct Tile {
  int64_t row;
  int height;
};
inline std::vector<Tile> tiles_of(int64_t rows) {
  std::vector<Tile> tiles;
  int64_t row = 0;
#if MOTET_TILES
  for (; rows - row >= TALL; row += TALL) tiles.push_back({row, TALL});
#endif
  for (int height = TILE; height; height /= 2)
    for (; rows - row >= height; row += height) tiles.push_back({row, height});
  return tiles;
}

#if MOTET_PAIRS
// So many rows of a block each, two by two: eight columns of both side by side, as an instruction
// multiplies them.
inline void pair_rows(int8_t* x, int64_t rows) {
  for (int64_t r = 0; r < rows; r += 2, x += 2 * BLOCK) {
    int64_t columns[8];
    memcpy(columns, x, sizeof columns);
    for (int k = 0; k < 4; k++)
      for (int i = 0; i < 2; i++) memcpy(x + 16 * k + 8 * i, columns + 4 * i + k, 8);
  }
}
#endif

// Call f(tile) for each, on all threads if there are many rows.
template <class Function>
void each_tile(ThreadPool& pool, const std::vector<Tile>& tiles, const Function& f) {
  if (tiles.back().row + tiles.back().height < 2 * TILE)
    for (const Tile& tile : tiles) f(tile);
  else
    pool.run((int64_t)tiles.size(), [&](int t, int) { f(tiles[t]); });
}

// Four scales that a group may have: the steps, and by what values are multiplied to count them.
// The largest magnitude stands at -128, 127, 126 or 125 of them.
struct Candidates {
  alignas(16) float step[4], inverse[4], errors[4];

  // For N vectors; the step is not finite where a value is not.
  template <int N>
  INLINE void find(const float* x) {
    f32x16 v[N];
    for (int i = 0; i < N; i++) v[i] = f32x16::load(x + i * LANES);
    f32x16 top = v[0];
    for (int i = 1; i < N; i++) top = maximum(top, v[i]);
    float most = largest_magnitude(v);
    const bool any = most > 0;
    uint32_t bits;
    memcpy(&bits, &most, 4);
    bits ^= (uint32_t)(largest(top) != most) << 31;
    memcpy(&most, &bits, 4);
    const float4 steps{-128, 127, 126, 125}, all{most, most, most, most};
    store4(step, all / steps);
    store4(inverse, any ? steps / all : float4{});
  }

  static INLINE f32x16 counted(f32x16 v, float inverse) {
    return minimum(f32x16::set(127), v * f32x16::set(inverse));
  }

  template <int N>
  INLINE void measure(const float* x) {
    f32x16 squares[4];
    for (int c = 0; c < 4; c++) squares[c] = f32x16::set(0);
#pragma GCC unroll 16
    for (int i = 0; i < N; i++) {
      const f32x16 v = f32x16::load(x + i * LANES);
#pragma GCC unroll 4
      for (int c = 0; c < 4; c++) {
        const f32x16 whole = to_float(round_to_int(counted(v, inverse[c])));
        const f32x16 error = whole * f32x16::set(step[c]) - v;
        squares[c] = fma(error, error, squares[c]);
      }
    }
    sum_each(squares, errors);
  }

  // That of the least error, the first of equals, to the front; a NaN is taken, and stays. Without
  // branches, since nothing foretells which it is.
  INLINE void choose() {
    float least = errors[0], s = step[0], i = inverse[0];
    for (int c = 1; c < 4; c++) {
      const bool less = !(errors[c] >= least);
      least = less ? errors[c] : least;
      s = less ? step[c] : s;
      i = less ? inverse[c] : i;
    }
    *step = s;
    *inverse = i;
  }
};

// x rounded to int8 with a scale per group, of four candidates the one with the least squared
// error. A group is a block, or a super-block for weights that have them. Values [block][row][32],
// scales [group][row], sums of 16 values [block][2][row], a tile after another.
struct Quantised {
  Quantised(ThreadPool& pool, const float* x, int64_t rows, int64_t columns,
            const std::vector<Tile>& tiles, int size)
      : blocks(columns / BLOCK),
        groups(blocks / size),
        q(rows * columns),
        scale(rows * groups),
        sums(rows * blocks * 2) {
    each_tile(pool, tiles, [&](Tile tile) {
      for (int r = 0; r < tile.height; r++) {
        const float* row = x + (tile.row + r) * columns;
        if (size == 1)
          quantise<1>(row, tile, r);
        else
          quantise<SUPER / BLOCK>(row, tile, r);
      }
#if MOTET_PAIRS
      if (tile.height >= 4) pair_rows(q.p + tile.row * columns, tile.height * blocks);
#endif
    });
  }

  // Row r of a tile. Step by step for several groups: each step waits long for the one before it.
  template <int BLOCKS>
  void quantise(const float* row, Tile tile, int r) {
    constexpr int N = BLOCKS * BLOCK / LANES, MOST = BLOCKS == 1 ? 8 : 1;
    const int h = tile.height;
    int8_t* values = q.p + tile.row * blocks * BLOCK;
    int32_t* totals = sums.p + tile.row * blocks * 2;
    Candidates each[MOST];
    for (int64_t first = 0; first < groups; first += MOST) {
      const int count = (int)std::min<int64_t>(MOST, groups - first);
      const float* x = row + first * N * LANES;
      for (int i = 0; i < count; i++) each[i].template find<N>(x + i * N * LANES);
      for (int i = 0; i < count; i++) each[i].template measure<N>(x + i * N * LANES);
      for (int i = 0; i < count; i++) each[i].choose();
      for (int i = 0; i < count; i++) {
        scale.p[tile.row * groups + (first + i) * h + r] = each[i].step[0];
        for (int k = 0; k < N; k++) {
          const f32x16 v = f32x16::load(x + (i * N + k) * LANES);
          const int64_t half = (first + i) * N + k;
          totals[half * h + r] =
              store_bytes(values + (half / 2 * h + r) * BLOCK + half % 2 * LANES,
                          round_to_int(Candidates::counted(v, each[i].inverse[0])));
        }
      }
    }
  }

  const int64_t blocks, groups;
  Buffer<int8_t> q;
  Buffer<float> scale;
  Buffer<int32_t> sums;
};

// What a kernel needs beside the products, a tile after another: where the integer sum of a group
// of columns starts, −zero·Σq [group][row]; or what a minimum multiplies, −scale·Σq [block][row],
// or where a super-block has minima, the whole Σq of two groups as words [pair][row].
struct Side {
  union Value {
    int32_t init;
    float scaled;
  };

  template <class L>
  static constexpr int64_t items() {  // of a row, for each group that a scale of activations has
    using Scales = typename L::Scales;
    if constexpr (Scales::BLOCKS > 1 && Scales::MINIMUM) return Scales::PAIRS;
    return Scales::BLOCKS * Scales::GROUPS;
  }

  template <class L>
  static std::unique_ptr<Buffer<Value>> make(ThreadPool& pool, const Quantised& x,
                                             const std::vector<Tile>& tiles) {
    using Scales = typename L::Scales;
    constexpr int G = Scales::GROUPS;
    const int64_t rows = tiles.back().row + tiles.back().height;
    auto out = std::make_unique<Buffer<Value>>(rows * x.groups * items<L>());
    each_tile(pool, tiles, [&](Tile tile) {
      const int64_t h = tile.height, count = x.groups * items<L>();
      Value* to = out->p + tile.row * count;
      const float* scale = x.scale.p + tile.row * x.groups;
      // Unsigned: the total of what is not finite may be any number.
      const auto* sums = (const uint32_t*)x.sums.p + tile.row * x.blocks * 2;
      for (int64_t i = 0; i < count; i++, to += h)
        for (int64_t r = 0; r < h; r++) {
          auto total = [&](int64_t group) {
            const uint32_t* s = sums + group * (2 / G) * h + r;
            return G == 2 ? s[0] : s[0] + s[h];
          };
          if constexpr (!Scales::MINIMUM)
            to[r].init = (int32_t)(-(uint32_t)L::ZERO * total(i));
          else if constexpr (Scales::BLOCKS > 1)
            to[r].init = (int32_t)((total(2 * i) & 0xffff) | total(2 * i + 1) << 16);
          else
            to[r].scaled = -scale[i * h + r] * (float)(int32_t)total(i);
        }
    });
    return out;
  }
};

}  // namespace
