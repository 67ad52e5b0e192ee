// The rows of x in a call, in the order in which kernels walk through them.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "quantised.hpp"
#include "tuning.hpp"

namespace {

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
    sides_.push_back({kind, Side::make<L>(pool, quantised(Scales::BLOCKS), tiles)});
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
