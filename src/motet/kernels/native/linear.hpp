// y = x · wᵀ for packed weights, by one kernel for one row and for a thousand.
//
// An element of y is accumulated block after block of 32 columns, in a float, whatever else is in
// the call: the products inside a block are exact in int32 (quantised weights) or in a fixed order
// (float weights). So it does not depend on how many rows there are or which thread computes it.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "pack.hpp"
#include "threads.hpp"
#if MOTET_TILES
#include "linear_tiles.hpp"
#endif

namespace {

#if MOTET_AVX512
constexpr int TILE = 8;    // rows of x that a kernel works on together
constexpr int PAIRED = 8;  // rows from which on it takes two strips at once
#else
constexpr int TILE = 4;
constexpr int PAIRED = TILE + 1;
#endif
constexpr int L2_BYTES = 256 << 10;  // of activations that stay at hand while weights pass

// Rows of x are cut into tiles of TILE, then 4, 2 and 1 rows (before all, tall ones where there is
// a matrix unit); values of a tile are interleaved so that a kernel walks through one stream.
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
      i32x16 best[2];
      float least = INFINITY, step = most;
      for (const float steps : {-128.0f, 127.0f, 126.0f, 125.0f}) {
        const f32x16 s = f32x16::set(most / steps);
        const f32x16 inverse = f32x16::set(size > 0 ? steps / most : 0.0f);
        f32x16 squares = f32x16::set(0);
        i32x16 rounded[2];
        for (int g = 0; g < 2; g++) {
          const f32x16 n = minimum(f32x16::set(127), half[g] * inverse);
          rounded[g] = round_to_int(n);
          const f32x16 error = to_float(rounded[g]) * s - half[g];
          squares = fma(error, error, squares);
        }
        const float error = sum(squares);
        if (!(error >= least)) {  // a NaN is taken, and stays
          least = error;
          step = most / steps;
          best[0] = rounded[0];
          best[1] = rounded[1];
        }
      }
      scales[b * h + r] = step;
      for (int g = 0; g < 2; g++) {
        store_bytes(values + (b * h + r) * BLOCK + g * LANES, best[g]);
        totals[(b * 2 + g) * h + r] = sum(best[g]);
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
            if (zero)
              out[(b * groups + g) * h + r].init = -zero * total;
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

// R rows of a tile against S strips that follow each other; a, scale and side point at the tile.
// Two strips share the loading of an activation, which is what many rows are limited by.
template <class L, int R, int S>
inline void multiply(const uint8_t* strips, int64_t strip_bytes, int64_t blocks, const int8_t* a,
                     const float* scale, const Side::Value* side, f32x16 (&out)[S][R]) {
  using Scales = typename L::Scales;
  constexpr int G = Scales::GROUPS;
  f32x16 acc[S][R];
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) acc[s][r] = f32x16::set(0);
  for (int64_t b = 0; b < blocks; b++) {
    i32x16 w[S][8];
    f32x16 d[S][G], m[S][G];
#pragma GCC unroll 2
    for (int s = 0; s < S; s++) {
      const uint8_t* strip = strips + s * strip_bytes;
      const uint8_t* scales = strip + L::unit(b);
      const int i = (int)(b % Scales::BLOCKS);
      open_quants<L::BITS>(strip + L::quants(b), w[s]);
      for (int g = 0; g < G; g++) {
        d[s][g] = Scales::d(scales, i, g);
        if constexpr (Scales::MINIMUM) m[s][g] = Scales::m(scales, i, g);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const int32_t* four = (const int32_t*)(a + (b * R + r) * BLOCK);
      const f32x16 one = f32x16::set(scale[b * R + r]);
#pragma GCC unroll 2
      for (int g = 0; g < G; g++) {
        const Side::Value extra = side[(b * G + g) * R + r];
        constexpr int vectors = 8 / G;
        i32x16 sums[S];
#pragma GCC unroll 2
        for (int s = 0; s < S; s++) sums[s] = set_int(Scales::MINIMUM ? 0 : extra.init);
#pragma GCC unroll 8
        for (int j = g * vectors; j < (g + 1) * vectors; j++)
#pragma GCC unroll 2
          for (int s = 0; s < S; s++) sums[s] = dot<L::BITS>(sums[s], w[s][j], four[j]);
#pragma GCC unroll 2
        for (int s = 0; s < S; s++) {
          acc[s][r] = fma(d[s][g] * one, to_float(sums[s]), acc[s][r]);
          if constexpr (Scales::MINIMUM)
            acc[s][r] = fma(m[s][g], f32x16::set(extra.scaled), acc[s][r]);
        }
      }
    }
  }
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) out[s][r] = acc[s][r];
}

// Float weights: a is [column][row] a tile. Blocks of 64 columns, even and odd ones apart.
template <class W>
inline f32x16 load_weights(const void* p);
struct Half {};
struct Brain {};
template <>
inline f32x16 load_weights<float>(const void* p) {
  return f32x16::load((const float*)p);
}
template <>
inline f32x16 load_weights<Half>(const void* p) {
  return f32x16::half((const uint16_t*)p);
}
template <>
inline f32x16 load_weights<Brain>(const void* p) {
  return f32x16::bf16((const uint16_t*)p);
}

template <class W, int R>
inline void multiply_float(const uint8_t* strip, int64_t columns, const float* a,
                           f32x16 (&acc)[R]) {
  constexpr int item = (std::is_same_v<W, float> ? 4 : 2) * STRIP;
  constexpr int64_t chunk = 64;
  for (int r = 0; r < R; r++) acc[r] = f32x16::set(0);
  for (int64_t start = 0; start < columns; start += chunk) {
    const int64_t stop = std::min(columns, start + chunk);
    f32x16 even[R], odd[R];
    for (int r = 0; r < R; r++) even[r] = odd[r] = f32x16::set(0);
    int64_t k = start;
    for (; k + 1 < stop; k += 2) {
      const f32x16 w0 = load_weights<W>(strip + k * item);
      const f32x16 w1 = load_weights<W>(strip + (k + 1) * item);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        even[r] = fma(w0, f32x16::set(a[k * R + r]), even[r]);
        odd[r] = fma(w1, f32x16::set(a[(k + 1) * R + r]), odd[r]);
      }
    }
    if (k < stop)
      for (int r = 0; r < R; r++)
        even[r] = fma(load_weights<W>(strip + k * item), f32x16::set(a[k * R + r]), even[r]);
    for (int r = 0; r < R; r++) acc[r] = acc[r] + (even[r] + odd[r]);
  }
}

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
        const Tile tile = tiles[t];
        float* out = floats_->p + tile.row * columns;
        for (int64_t k = 0; k < columns; k++)
          for (int r = 0; r < tile.height; r++)
            out[k * tile.height + r] = x[(tile.row + r) * columns + k];
      });
    }
    return floats_->p;
  }

  ThreadPool& pool;
  const float* x;
  const int64_t rows, columns;
  const std::vector<Tile> tiles;

 private:
  struct OneSide {
    int groups, zero;
    std::unique_ptr<Side> side;
  };
  std::unique_ptr<Quantised> quantised_;
  std::unique_ptr<Buffer<float>> floats_;
  std::vector<OneSide> sides_;
};

// One matrix of a call, ready to be worked on piece by piece.
struct Product {
  Product(Input& input, const Matrix& w, float* y) : input(input), w(w), y(y) {
    if (w.is_float()) {
      floats = input.interleaved();
    } else {
      with_type(w.type, [&](auto t) {
        using L = typename LayoutOf<t()>::Base;
        x = &input.quantised();
        side = input.side(L::Scales::GROUPS, L::Scales::MINIMUM ? 0 : L::ZERO);
      });
    }
    // Few rows: long pieces, since memory delivers best in long streams, but enough of them that
    // the threads finish together. Many rows: strips that stay at hand while the tiles pass.
    const int64_t bytes = std::clamp<int64_t>(w.bytes / 16, 32 << 10, 256 << 10);
    const int64_t most = input.rows < 32 ? bytes / w.strip_bytes : (192 << 10) / w.strip_bytes;
    strips_a_piece = std::clamp<int64_t>(most, 1, input.rows < 32 ? w.strips : 8);
    pieces = (w.strips + strips_a_piece - 1) / strips_a_piece;
  }

  void run(int64_t piece) const {
    const int64_t first = piece * strips_a_piece;
    const int64_t last = std::min(w.strips, first + strips_a_piece);
    const size_t tall = run_tall(first, last);
    const size_t together =
        std::max<size_t>(1, L2_BYTES / (size_t)(input.columns * TILE * (w.is_float() ? 4 : 1)));
    for (size_t t0 = tall; t0 < input.tiles.size(); t0 += together) {
      const size_t t1 = std::min(input.tiles.size(), t0 + together);
      for (int64_t s = first; s < last; s += 2)
        for (size_t t = t0; t < t1; t++) {
          if (s + 1 < last)
            with_height(input.tiles[t], [&](auto R) { two<R()>(s, input.tiles[t]); });
          else
            with_height(input.tiles[t], [&](auto R) { some<R(), 1>(s, input.tiles[t]); });
        }
    }
  }

  // The tall tiles against strips [first, last), on the matrix unit; returns how many there were.
  size_t run_tall([[maybe_unused]] int64_t first, [[maybe_unused]] int64_t last) const {
    size_t tall = 0;
#if MOTET_TILES
    while (tall < input.tiles.size() && input.tiles[tall].height == TALL) tall++;
    if (!tall) return 0;
    if (w.is_float()) {
      for (size_t t = 0; t < tall; t++)
        for (int64_t s = first; s < last; s++) some<TALL, 1>(s, input.tiles[t]);
      return tall;
    }
    with_type(w.type, [&](auto t) {
      using L = typename LayoutOf<t()>::Base;
      Buffer<uint8_t> panel(2 * x->blocks * 512);
      Tiles tiles(BLOCK / L::Scales::GROUPS);
      for (int64_t s = first; s < last; s += 2) {
        if (s + 1 < last)
          tall_strips<L, 2>(tiles, s, tall, panel.p);
        else
          tall_strips<L, 1>(tiles, s, tall, panel.p);
      }
    });
#endif
    return tall;
  }

#if MOTET_TILES
  template <class L, int S>
  void tall_strips(Tiles& tiles, int64_t s, size_t tall, uint8_t* panel) const {
    const uint8_t* strips = w.data + s * w.strip_bytes;
    open_strips<L, S>(strips, w.strip_bytes, x->blocks, panel);
    f32x16 out[S][TALL];
    for (size_t t = 0; t < tall; t++) {
      const int64_t at = input.tiles[t].row * x->blocks;
      multiply_tiles<L, S>(tiles, panel, strips, w.strip_bytes, x->blocks, x->q.p + at * BLOCK,
                           x->scale.p + at, side + at * L::Scales::GROUPS, out);
      put<TALL, S>(s, input.tiles[t], out);
    }
  }
#endif

  template <class Function>
  static void with_height(Tile tile, const Function& f) {
    switch (tile.height) {
      case 1: return f(std::integral_constant<int, 1>{});
      case 2: return f(std::integral_constant<int, 2>{});
      case 4: return f(std::integral_constant<int, 4>{});
      default: return f(std::integral_constant<int, TILE>{});
    }
  }

  // Few rows wait for memory, which one stream is fastest for: one strip after the other.
  template <int R>
  void two(int64_t s, Tile tile) const {
    if constexpr (R >= PAIRED) {
      some<R, 2>(s, tile);
    } else {
      some<R, 1>(s, tile);
      some<R, 1>(s + 1, tile);
    }
  }

  // A tile against S strips from strip s on.
  template <int R, int S>
  void some(int64_t s, Tile tile) const {
    const uint8_t* strips = w.data + s * w.strip_bytes;
    f32x16 out[S][R];
    if (w.is_float()) {
      const float* a = floats + tile.row * w.columns;
      for (int i = 0; i < S; i++) {
        const uint8_t* strip = strips + i * w.strip_bytes;
        if (w.type == F32)
          multiply_float<float, R>(strip, w.columns, a, out[i]);
        else if (w.type == F16)
          multiply_float<Half, R>(strip, w.columns, a, out[i]);
        else
          multiply_float<Brain, R>(strip, w.columns, a, out[i]);
      }
    } else if constexpr (R <= TILE) {
      with_type(w.type, [&](auto t) {
        using L = typename LayoutOf<t()>::Base;
        const int64_t at = tile.row * x->blocks;
        multiply<L, R, S>(strips, w.strip_bytes, x->blocks, x->q.p + at * BLOCK, x->scale.p + at,
                          side + at * L::Scales::GROUPS, out);
      });
    }
    put<R, S>(s, tile, out);
  }

  template <int R, int S>
  void put(int64_t s, Tile tile, const f32x16 (&out)[S][R]) const {
    for (int i = 0; i < S; i++) {
      const int64_t column = (s + i) * STRIP, rows = std::min<int64_t>(STRIP, w.rows - column);
      for (int r = 0; r < R; r++) {
        float* at = y + (tile.row + r) * w.rows + column;
        if (rows == STRIP)
          out[i][r].store(at);
        else
          store_part(at, (int)rows, out[i][r]);
      }
    }
  }

  Input& input;
  const Matrix& w;
  float* y;
  const Quantised* x = nullptr;
  const Side::Value* side = nullptr;
  const float* floats = nullptr;
  int64_t strips_a_piece, pieces;
};

inline void linear(ThreadPool& pool, const float* x, int64_t rows, int64_t columns,
                   const std::vector<const Matrix*>& weights, const std::vector<float*>& outputs) {
  if (!rows) return;
  Input input(pool, x, rows, columns);
  std::vector<Product> products;
  std::vector<int64_t> ends;
  for (size_t i = 0; i < weights.size(); i++) {
    products.emplace_back(input, *weights[i], outputs[i]);
    ends.push_back(products.back().pieces + (i ? ends.back() : 0));
  }
  pool.run(ends.back(), [&](int piece, int) {
    const size_t i = std::upper_bound(ends.begin(), ends.end(), piece) - ends.begin();
    products[i].run(piece - (i ? ends[i - 1] : 0));
  });
}

// Row `row` of a matrix, as floats.
inline void unpack_row(const Matrix& w, int64_t row, float* out) {
  const uint8_t* strip = w.data + row / STRIP * w.strip_bytes;
  const int lane = (int)(row % STRIP);
  float lanes[LANES];
  if (w.is_float()) {
    for (int64_t k = 0; k < w.columns; k++) {
      const uint8_t* p = strip + k * w.item_bytes * STRIP;
      const f32x16 v = w.type == F32   ? load_weights<float>(p)
                       : w.type == F16 ? load_weights<Half>(p)
                                       : load_weights<Brain>(p);
      v.store(lanes);
      out[k] = lanes[lane];
    }
    return;
  }
  with_type(w.type, [&](auto t) {
    using L = typename LayoutOf<t()>::Base;
    using S = typename L::Scales;
    const int64_t blocks = w.columns / BLOCK;
    for (int64_t b = 0; b < blocks; b++) {
      const int i = (int)(b % S::BLOCKS);
      i32x16 open[8];
      open_quants<L::BITS>(strip + L::quants(b), open);
      uint8_t q[8][4 * STRIP];
      for (int j = 0; j < 8; j++) store_int(q[j], open[j]);
      for (int g = 0; g < S::GROUPS; g++) {
        float m = 0;
        S::d(strip + L::unit(b), i, g).store(lanes);
        const float d = lanes[lane];
        if constexpr (S::MINIMUM) {
          S::m(strip + L::unit(b), i, g).store(lanes);
          m = lanes[lane];
        }
        const int size = BLOCK / S::GROUPS;
        for (int c = g * size; c < (g + 1) * size; c++)
          out[b * BLOCK + c] = d * (float)(q[c / 4][lane * 4 + c % 4] - L::ZERO) - m;
      }
    }
  });
}

}  // namespace
