// y = x · wᵀ for packed weights, by one kernel for one row and for a thousand.
//
// An element of y is accumulated block after block of 32 columns, in a float, whatever else is in
// the call: the products inside a block are exact in int32 (quantised weights) or in a fixed order
// (float weights). So it does not depend on how many rows there are or which thread computes it.
#pragma once
#include "multiply.hpp"
#include "pack.hpp"

namespace {

#if MOTET_AVX512
constexpr int PAIRED = 8;  // rows from which on a kernel takes two strips at once
#else
constexpr int PAIRED = TILE + 1;
#endif
constexpr int L2_BYTES = 256 << 10;  // of activations that stay at hand while weights pass

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
    // the threads finish together. Many rows: strips that stay at hand while the tiles pass, in
    // pairs, and pieces for every thread.
    if (input.rows < 32) {
      const int64_t bytes = std::clamp<int64_t>(w.bytes / 16, 32 << 10, 256 << 10);
      strips_a_piece = std::clamp<int64_t>(bytes / w.strip_bytes, 1, w.strips);
    } else {
      const int64_t fair = w.strips / (4 * input.pool.threads()) / 2 * 2;
      const int64_t most = std::clamp<int64_t>(fair, 2, 8);
      strips_a_piece = std::clamp<int64_t>((192 << 10) / w.strip_bytes, 1, most);
    }
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
          multiply_floats<float, R>(strip, w.columns, a, out[i]);
        else if (w.type == F16)
          multiply_floats<Half, R>(strip, w.columns, a, out[i]);
        else
          multiply_floats<Brain, R>(strip, w.columns, a, out[i]);
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

// All the products, their pieces shared out among the threads.
inline void multiply_all(ThreadPool& pool, const std::vector<Product>& products) {
  if (products.empty()) return;
  std::vector<int64_t> ends;
  for (const Product& p : products) ends.push_back(p.pieces + (ends.empty() ? 0 : ends.back()));
  pool.run(ends.back(), [&](int piece, int) {
    const size_t i = std::upper_bound(ends.begin(), ends.end(), piece) - ends.begin();
    products[i].run(piece - (i ? ends[i - 1] : 0));
  });
}

inline void linear(ThreadPool& pool, const float* x, int64_t rows, int64_t columns,
                   const std::vector<const Matrix*>& weights, const std::vector<float*>& outputs) {
  if (!rows) return;
  Input input(pool, x, rows, columns);
  std::vector<Product> products;
  for (size_t i = 0; i < weights.size(); i++) products.emplace_back(input, *weights[i], outputs[i]);
  multiply_all(pool, products);
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
