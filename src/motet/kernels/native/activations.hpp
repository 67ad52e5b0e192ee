// The rows of x in a call, in the order in which kernels walk through them.
#pragma once
#include <algorithm>
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

// x rounded to int8 with a scale per block, of four candidates the one with the least squared
// error (a largest value may stand at -128 or at 127, 126 or 125): values [block][row][32], scales
// [block][row], sums of 16 values [block][2][row], a tile after another.
struct Quantised {
  Quantised(ThreadPool& pool, const float* x, int64_t rows, int64_t columns,
            const std::vector<Tile>& tiles)
      : blocks(columns / BLOCK), q(rows * columns), scale(rows * blocks), sums(rows * blocks * 2) {
    auto one = [&](int t, int) {
      const Tile tile = tiles[t];
      for (int r = 0; r < tile.height; r++) quantise(x + (tile.row + r) * columns, tile, r);
    };
    if (rows < 2 * TILE)
      for (size_t t = 0; t < tiles.size(); t++) one((int)t, 0);
    else
      pool.run((int64_t)tiles.size(), one);
  }

  void quantise(const float* x, Tile tile, int r) {
    const int h = tile.height;
    int8_t* values = q.p + tile.row * blocks * BLOCK;
    float* scales = scale.p + tile.row * blocks;
    int32_t* totals = sums.p + tile.row * blocks * 2;
    for (int64_t b = 0; b < blocks; b++) {
      const f32x16 half[2] = {f32x16::load(x + b * BLOCK), f32x16::load(x + b * BLOCK + LANES)};
      const float size = largest_magnitude(half[0], half[1]);
      const float most = largest(maximum(half[0], half[1])) == size ? size : -size;
      constexpr float steps[4] = {-128, 127, 126, 125};
      float step[4], inverse[4], errors[4];
      for (int i = 0; i < 4; i++) {
        step[i] = most / steps[i];
        inverse[i] = steps[i] / most;
      }
      if (!(size > 0)) std::fill(inverse, inverse + 4, 0.0f);
      auto rounded = [&](int g, int i) {
        return round_to_int(minimum(f32x16::set(127), half[g] * f32x16::set(inverse[i])));
      };
      f32x16 squares[4];
      for (int i = 0; i < 4; i++) {
        squares[i] = f32x16::set(0);
        for (int g = 0; g < 2; g++) {
          const f32x16 error = to_float(rounded(g, i)) * f32x16::set(step[i]) - half[g];
          squares[i] = fma(error, error, squares[i]);
        }
      }
      sum_each(squares, errors);
      int best = 0;
      for (int i = 1; i < 4; i++)
        if (!(errors[i] >= errors[best])) best = i;  // a NaN is taken, and stays
      scales[b * h + r] = step[best];
      for (int g = 0; g < 2; g++) {
        const i32x16 q = rounded(g, best);
        store_bytes(values + (b * h + r) * BLOCK + g * LANES, q);
        totals[(b * 2 + g) * h + r] = sum(q);
      }
    }
  }

  int64_t blocks;
  Buffer<int8_t> q;
  Buffer<float> scale;
  Buffer<int32_t> sums;
};

// What a layout adds beside the products: −zero·Σq, where the integer sum starts, or −scale·Σq,
// which the minimum multiplies. [block][group][row] a tile.
struct Side {
  Side(const Quantised& x, const std::vector<Tile>& tiles, int groups, int zero)
      : values(x.blocks * groups * (tiles.back().row + tiles.back().height)) {
    for (const Tile& tile : tiles) {
      const int h = tile.height;
      const int32_t* sums = x.sums.p + tile.row * x.blocks * 2;
      const float* scale = x.scale.p + tile.row * x.blocks;
      auto* out = values.p + tile.row * x.blocks * groups;
      for (int64_t b = 0; b < x.blocks; b++)
        for (int g = 0; g < groups; g++)
          for (int r = 0; r < h; r++) {
            const int32_t* s = sums + b * 2 * h + r;
            const int32_t total = groups == 2 ? s[g * h] : s[0] + s[h];
            if (zero)  // unsigned: the total of what is not finite may be any number
              out[(b * groups + g) * h + r].init = (int32_t)(-(uint32_t)zero * (uint32_t)total);
            else
              out[(b * groups + g) * h + r].scaled = -scale[b * h + r] * (float)total;
          }
    }
  }
  union Value {
    int32_t init;
    float scaled;
  };
  Buffer<Value> values;
};

// Everything that the matrices of one call share of x.
class Input {
 public:
  Input(ThreadPool& pool, const float* x, int64_t rows, int64_t columns)
      : pool(pool), x(x), rows(rows), columns(columns), tiles(tiles_of(rows)) {}

  const Quantised& quantised() {
    if (!quantised_) quantised_ = std::make_unique<Quantised>(pool, x, rows, columns, tiles);
    return *quantised_;
  }
  const Side::Value* side(int groups, int zero) {
    for (auto& s : sides_)
      if (s.groups == groups && s.zero == zero) return s.side->values.p;
    sides_.push_back({groups, zero, std::make_unique<Side>(quantised(), tiles, groups, zero)});
    return sides_.back().side->values.p;
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
    int groups, zero;
    std::unique_ptr<Side> side;
  };
  std::unique_ptr<Quantised> quantised_;
  std::unique_ptr<Buffer<float>> floats_;
  std::unique_ptr<Buffer<uint32_t>> rounded_;
  std::vector<OneSide> sides_;
};

}  // namespace
