// The rows of x in a call, in the order in which kernels walk through them.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "layouts.hpp"
#include "threads.hpp"
#include "tuning.hpp"
#if MOTET_TILES
#include "linear_tiles.hpp"
#endif

namespace {

#if MOTET_AVX512
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

// Call f with the height of a tile as a constant.
template <class Function>
void with_height(Tile tile, const Function& f) {
  switch (tile.height) {
    case 1: return f(std::integral_constant<int, 1>{});
    case 2: return f(std::integral_constant<int, 2>{});
    case 4: return f(std::integral_constant<int, 4>{});
    case 8: return f(std::integral_constant<int, std::min(8, TILE)>{});
#if MOTET_TILES
    case TALL: return f(std::integral_constant<int, TALL>{});
#endif
    default: return f(std::integral_constant<int, TILE>{});
  }
}

// H rows as [column][row].
template <int H>
void interleave(const float* x, int64_t columns, float* out) {
  int64_t k = 0;
  for (; k + LANES <= columns; k += LANES) {
    float part[H][LANES];
    for (int r = 0; r < H; r++) f32x16::load(x + r * columns + k).store(part[r]);
    for (int c = 0; c < LANES; c++)
      for (int r = 0; r < H; r++) out[(k + c) * H + r] = part[r][c];
  }
  for (; k < columns; k++)
    for (int r = 0; r < H; r++) out[k * H + r] = x[r * columns + k];
}

// H rows rounded to BF16, an odd number of columns filled up with zeros: as words of two columns,
// [two columns][row], or as floats, [column][row].
template <int H, bool words>
void interleave_rounded(const float* x, int64_t columns, uint32_t* out) {
  for (int64_t k = 0; k < columns; k += LANES) {
    const int count = (int)std::min<int64_t>(LANES, columns - k);
    uint64_t pairs[H][LANES / 2];
    for (int r = 0; r < H; r++) {
      const float* from = x + r * columns + k;
      const f32x16 v = count == LANES ? f32x16::load(from) : load_part(from, count);
      store_int(pairs[r], rounded_to_bf16(v));
    }
    for (int i = 0; i < (count + 1) / 2; i++)
      for (int r = 0; r < H; r++) {
        const uint32_t even = (uint32_t)pairs[r][i], odd = (uint32_t)(pairs[r][i] >> 32);
        const int64_t at = k / 2 + i;
        if constexpr (words) {
          out[at * H + r] = even >> 16 | odd;
        } else {
          out[2 * at * H + r] = even;
          out[(2 * at + 1) * H + r] = odd;
        }
      }
  }
}

template <class T>
struct Buffer {  // 64-byte aligned, not initialised
  explicit Buffer(int64_t count)
      : p((T*)aligned_alloc(64, (std::max<int64_t>(count, 1) * sizeof(T) + 63) / 64 * 64)) {
    if (!p) throw std::bad_alloc();
  }
  ~Buffer() { free(p); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* p;
};

// x rounded to int8 with a scale per group, of four candidates the one with the least squared error
// (a largest value may stand at -128 or at 127, 126 or 125). A group is a block, or a super-block
// for weights that have them. Values [block][row][32], scales [group][row], sums of 16 values
// [block][2][row], a tile after another.
struct Quantised {
  Quantised(ThreadPool& pool, const float* x, int64_t rows, int64_t columns,
            const std::vector<Tile>& tiles, int size)
      : size(size),
        blocks(columns / BLOCK),
        groups(blocks / size),
        q(rows * columns),
        scale(rows * groups),
        sums(rows * blocks * 2) {
    auto one = [&](int t, int) {
      const Tile tile = tiles[t];
      for (int r = 0; r < tile.height; r++)
        for (int64_t g = 0; g < groups; g++) {
          const float* from = x + (tile.row + r) * columns + g * size * BLOCK;
          if (size == 1)
            quantise<1>(from, tile, r, g);
          else
            quantise<SUPER / BLOCK>(from, tile, r, g);
        }
    };
    if (rows < 2 * TILE)
      for (size_t t = 0; t < tiles.size(); t++) one((int)t, 0);
    else
      pool.run((int64_t)tiles.size(), one);
  }

  // Group `group` of row r of a tile.
  template <int BLOCKS>
  void quantise(const float* x, Tile tile, int r, int64_t group) {
    constexpr int N = BLOCKS * BLOCK / LANES;
    const int h = tile.height;
    f32x16 v[N];
    for (int i = 0; i < N; i++) v[i] = f32x16::load(x + i * LANES);
    f32x16 top = v[0];
    for (int i = 1; i < N; i++) top = maximum(top, v[i]);
    const float magnitude = largest_magnitude(v);
    const float most = largest(top) == magnitude ? magnitude : -magnitude;
    constexpr float steps[4] = {-128, 127, 126, 125};
    float step[4], inverse[4], errors[4];
    for (int c = 0; c < 4; c++) {
      step[c] = most / steps[c];
      inverse[c] = steps[c] / most;
    }
    if (!(magnitude > 0)) std::fill(inverse, inverse + 4, 0.0f);
    auto rounded = [&](int i, int c) {
      return round_to_int(minimum(f32x16::set(127), v[i] * f32x16::set(inverse[c])));
    };
    f32x16 squares[4];
    for (int c = 0; c < 4; c++) {
      squares[c] = f32x16::set(0);
      for (int i = 0; i < N; i++) {
        const f32x16 error = to_float(rounded(i, c)) * f32x16::set(step[c]) - v[i];
        squares[c] = fma(error, error, squares[c]);
      }
    }
    sum_each(squares, errors);
    int best = 0;
    for (int c = 1; c < 4; c++)
      if (!(errors[c] >= errors[best])) best = c;  // a NaN is taken, and stays
    scale.p[tile.row * groups + group * h + r] = step[best];
    int8_t* values = q.p + tile.row * blocks * BLOCK;
    int32_t* totals = sums.p + tile.row * blocks * 2;
    for (int i = 0; i < N; i++) {
      const i32x16 whole = rounded(i, best);
      const int64_t b = group * BLOCKS + i / 2;
      store_bytes(values + (b * h + r) * BLOCK + i % 2 * LANES, whole);
      totals[(b * 2 + i % 2) * h + r] = sum(whole);
    }
  }

  const int size;  // of a group, in blocks
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
  static std::unique_ptr<Buffer<Value>> make(const Quantised& x, const std::vector<Tile>& tiles) {
    using Scales = typename L::Scales;
    constexpr int G = Scales::GROUPS;
    const int64_t rows = tiles.back().row + tiles.back().height;
    auto out = std::make_unique<Buffer<Value>>(rows * x.groups * items<L>());
    for (const Tile& tile : tiles) {
      const int h = tile.height;
      const int32_t* sums = x.sums.p + tile.row * x.blocks * 2;
      // Unsigned: the total of what is not finite may be any number.
      auto total = [&](int64_t group, int r) {
        const int32_t* s = sums + group * (2 / G) * h + r;
        return G == 2 ? (uint32_t)s[0] : (uint32_t)s[0] + (uint32_t)s[h];
      };
      Value* to = out->p + tile.row * x.groups * items<L>();
      for (int64_t i = 0; i < x.groups * items<L>(); i++)
        for (int r = 0; r < h; r++, to++) {
          if constexpr (!Scales::MINIMUM)
            to->init = (int32_t)(-(uint32_t)L::ZERO * total(i, r));
          else if constexpr (Scales::BLOCKS > 1)
            to->init = (int32_t)((total(2 * i, r) & 0xffff) | total(2 * i + 1, r) << 16);
          else
            to->scaled = -x.scale.p[tile.row * x.groups + i * h + r] * (float)(int32_t)total(i, r);
        }
    }
    return out;
  }
};

// Everything that the matrices of one call share of x.
class Input {
 public:
  Input(ThreadPool& pool, const float* x, int64_t rows, int64_t columns)
      : pool(pool), x(x), rows(rows), columns(columns), tiles(tiles_of(rows)) {}

  // With a scale for so many blocks.
  const Quantised& quantised(int blocks) {
    auto& made = quantised_[blocks > 1];
    if (!made) made = std::make_unique<Quantised>(pool, x, rows, columns, tiles, blocks);
    return *made;
  }
  // Layouts that differ in their bits alone share one.
  template <class L>
  const Side::Value* side() {
    using Scales = typename L::Scales;
    const std::array<int, 3> kind = {Scales::BLOCKS, Scales::GROUPS,
                                     Scales::MINIMUM ? -1 : L::ZERO};
    for (auto& s : sides_)
      if (s.kind == kind) return s.values->p;
    sides_.push_back({kind, Side::make<L>(quantised(Scales::BLOCKS), tiles)});
    return sides_.back().values->p;
  }
  const float* interleaved() {
    if (!floats_) {
      floats_ = std::make_unique<Buffer<float>>(rows * columns);
      pool.run((int64_t)tiles.size(), [&](int t, int) {
        const int64_t at = tiles[t].row * columns;
        with_height(tiles[t], [&](auto H) { interleave<H()>(x + at, columns, floats_->p + at); });
      });
    }
    return floats_->p;
  }

  // Rounded to BF16; of a row so many items follow those of the row before.
  const uint32_t* rounded() {
    if (!rounded_) {
      rounded_ = std::make_unique<Buffer<uint32_t>>(rows * rounded_items());
      pool.run((int64_t)tiles.size(), [&](int t, int) {
        const Tile tile = tiles[t];
        const float* from = x + tile.row * columns;
        uint32_t* to = rounded_->p + tile.row * rounded_items();
        with_height(tile, [&](auto H) {
          if (dots)
            interleave_rounded<H(), true>(from, columns, to);
          else
            interleave_rounded<H(), false>(from, columns, to);
        });
      });
    }
    return rounded_->p;
  }
  int64_t rounded_items() const { return (columns + 1) / 2 * (dots ? 1 : 2); }

  ThreadPool& pool;
  const float* x;
  const int64_t rows, columns;
  const bool dots = tuning().dots;
  const std::vector<Tile> tiles;

 private:
  struct OneSide {
    std::array<int, 3> kind;
    std::unique_ptr<Buffer<Side::Value>> values;
  };
  std::array<std::unique_ptr<Quantised>, 2> quantised_;
  std::unique_ptr<Buffer<float>> floats_;
  std::unique_ptr<Buffer<uint32_t>> rounded_;
  std::vector<OneSide> sides_;
};

}  // namespace
