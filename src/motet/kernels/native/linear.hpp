// y = x · wᵀ for packed weights, by one kernel for one row and for a thousand.
//
// An element of y is accumulated block after block of 32 columns, in a float, whatever else is in
// the call: the products inside a block are exact in int32 (quantised weights) or in a fixed order
// (float weights). So it does not depend on how many rows there are or which thread computes it.
#pragma once
#include "multiply_codes.hpp"
#include "multiply_many.hpp"
#include "multiply_plain.hpp"
#include "pack.hpp"

namespace {

constexpr int L2_BYTES = 256 << 10;  // of activations that stay at hand while weights pass

// How much is computed on a byte of these weights.
template <class L>
constexpr Load load_of() {
  return L::Scales::BLOCKS > 1 ? SUPERS : L::Quants::STORED == 8 ? BYTES : NIBBLES;
}

// One matrix of a call, ready to be worked on piece by piece.
struct Product {
  Product(Input& input, const Matrix& w, float* y, const float* bias = nullptr)
      : input(input), w(w), y(y), bias(bias) {
    if (w.type == BF16) {
      load = WORDS;
      rounded = input.rounded();
    } else if (w.is_float()) {
      load = FLOATS;
      floats = input.interleaved();
    } else {
      with_type(w.type, [&](auto t) {
        using From = LayoutOf<t()>;
        using L = typename From::Opened;
        x = &input.quantised(L::Scales::BLOCKS);
        load = load_of<L>();
        side = input.side<L>();
        if constexpr (IN_CODES<From>) {
          open = From::opener();
          unit_bytes = From::UNIT_BYTES;
        }
      });
    }
    if (waits())
      cut_for_streams();
    else
      cut_for_tiles();
  }

  // Few rows: long pieces, since memory delivers best in long streams, and shorter ones towards the
  // end, so that threads finish together whichever of them are slower.
  void cut_for_streams() {
    const int64_t threads = input.pool.threads();
    together = streams(input.tiles[0].height);
    while (together > 2 && w.strips < 2 * threads * together) together /= 2;
    const int64_t most = std::max<int64_t>(1, (256 << 10) / (w.strip_bytes * together));
    const int64_t least = std::max<int64_t>(1, (32 << 10) / (w.strip_bytes * together));
    for (int64_t at = 0; at < w.strips;) {
      const int64_t fair = (w.strips - at) / (2 * threads * together);
      at += together * std::clamp(fair, least, std::max(least, most));
      ends.push_back(std::min(at, w.strips));
    }
  }

  // Many rows: strips that stay at hand while the tiles pass, in pairs, and pieces for every
  // thread.
  void cut_for_tiles() {
    const int64_t fair = w.strips / (4 * input.pool.threads()) / 2 * 2;
    const int64_t most = std::clamp<int64_t>(fair, 2, 8);
    const int64_t size = std::clamp<int64_t>((192 << 10) / w.strip_bytes, 1, most);
    together = 2;
    for (int64_t at = 0; at < w.strips; at += size) ends.push_back(std::min(at + size, w.strips));
  }

  // Strips that a tile of so many rows reads side by side.
  int64_t streams(int rows) const {
    if (from_codes()) return 1;
    const int most = w.is_float() ? most_float_streams(rows) : most_streams(rows);
    // Weights that stay at hand while many tiles pass are not waited for.
    return rows >= PAIRED && !waits() ? most : std::min(tuned.walk(load, rows).strips, most);
  }

  // Whether so few rows come that it is weights that are waited for.
  bool waits() const { return input.rows < 32; }

  // Whether so few rows come that a super-block is opened for them alone.
  bool from_codes() const {
    return open && input.tiles.size() == 1 && input.tiles[0].height < PAIRED;
  }

  // By how much a tile's strips are prefetched; the first one that meets them has them come.
  Fetch ahead(Tile tile) const {
    if (waits() && tile.row == 0) return tuned.walk(load, tile.height).ahead;
    // Super-blocks are opened vector by vector, so each would be waited for.
    return {tile.height >= PAIRED && load == SUPERS ? 2048 : 0, 1};
  }

  // Of x, as the kernels read it.
  int64_t row_bytes() const {
    if (w.type == BF16) return 4 * input.rounded_items();
    return input.columns * (w.is_float() ? 4 : 1);
  }

  void run(int64_t piece) const {
    const int64_t first = piece ? ends[piece - 1] : 0, last = ends[piece];
    if (open && !from_codes())
      run_opened(first, last);
    else
      run_strips({w.data, w.strip_bytes, 0}, first, last);
  }

  // Strips that lie one after another from number `first` on.
  struct Strips {
    const uint8_t* data;
    int64_t bytes, first;
    const uint8_t* at(int64_t s) const { return data + (s - first) * bytes; }
  };

  // Weights in codes: two strips are opened for all rows.
  void run_opened(int64_t first, int64_t last) const {
    const int64_t units = w.columns / SUPER;
    int64_t opened = 0;
    with_type(w.type, [&](auto t) { opened = LayoutOf<t()>::Opened::UNIT_BYTES; });
    Buffer<uint8_t> two(2 * units * opened);
    for (int64_t s = first; s < last; s += 2) {
      const int64_t end = std::min(s + 2, last);
      for (int64_t u = 0; u < (end - s) * units; u++)
        open(w.data + s * w.strip_bytes + u * unit_bytes, two.p + u * opened);
      run_strips({two.p, units * opened, s}, s, end);
    }
  }

  void run_strips(const Strips& strips, int64_t first, int64_t last) const {
    const size_t tall = run_tall(strips, first, last);
    const size_t at_hand = std::max<size_t>(1, L2_BYTES / (size_t)(row_bytes() * TILE));
    for (size_t t0 = tall; t0 < input.tiles.size(); t0 += at_hand) {
      const size_t t1 = std::min(input.tiles.size(), t0 + at_hand);
      for (int64_t s = first; s < last; s += together)
        for (size_t t = t0; t < t1; t++)
          with_height(input.tiles[t], [&](auto R) {
            if constexpr (R() <= TILE)
              some<R()>(strips, s, std::min(last, s + together), input.tiles[t]);
          });
    }
  }

  // The tall tiles against strips [first, last), on the matrix unit; returns how many there were.
  size_t run_tall([[maybe_unused]] const Strips& strips, [[maybe_unused]] int64_t first,
                  [[maybe_unused]] int64_t last) const {
    size_t tall = 0;
#if MOTET_TILES
    while (tall < input.tiles.size() && input.tiles[tall].height == TALL) tall++;
    if (!tall) return 0;
    if (w.is_float()) {
      for (size_t t = 0; t < tall; t++)
        for (int64_t s = first; s < last; s++) floats_of<TALL, 1>(s, input.tiles[t]);
      return tall;
    }
    with_type(w.type, [&](auto t) {
      using L = typename LayoutOf<t()>::Opened;
      Buffer<uint8_t> panel(2 * x->blocks * 512);
      Tiles tiles(BLOCK / L::Scales::GROUPS);
      for (int64_t s = first; s < last; s += 2) {
        if (s + 1 < last)
          tall_strips<L, 2>(tiles, strips, s, tall, panel.p);
        else
          tall_strips<L, 1>(tiles, strips, s, tall, panel.p);
      }
    });
#endif
    return tall;
  }

#if MOTET_TILES
  template <class L, int S>
  void tall_strips(Tiles& tiles, const Strips& strips, int64_t s, size_t tall,
                   uint8_t* panel) const {
    open_strips<L, S>(strips.at(s), strips.bytes, x->blocks, panel);
    f32x16 out[S][TALL];
    for (size_t t = 0; t < tall; t++) {
      const int64_t at = input.tiles[t].row * x->groups;
      multiply_tiles<L, S>(tiles, panel, strips.at(s), strips.bytes, x->blocks,
                           x->q.p + input.tiles[t].row * input.columns, x->scale.p + at,
                           side + at * Side::items<L>(), out);
      put<TALL, S>(s, input.tiles[t], out);
    }
  }
#endif

  // A tile against strips [s, last), as many at a time as there are streams for its rows.
  template <int R>
  void some(const Strips& strips, int64_t s, int64_t last, Tile tile) const {
    for (int64_t count = streams(R); s < last; s += count) {
      while (count > last - s) count /= 2;
      if (w.is_float())
        with_count<most_float_streams(R)>(count, [&](auto S) { floats_of<R, S()>(s, tile); });
      else
        with_count<most_streams(R)>(count, [&](auto S) { quants_of<R, S()>(strips, s, tile); });
    }
  }

  // Call f with a number of strips, at most `most`, as a constant.
  template <int most, class Function>
  static void with_count(int64_t count, const Function& f) {
    if constexpr (most >= 8)
      if (count == 8) return f(std::integral_constant<int, 8>{});
    if constexpr (most >= 4)
      if (count == 4) return f(std::integral_constant<int, 4>{});
    if constexpr (most >= 2)
      if (count == 2) return f(std::integral_constant<int, 2>{});
    f(std::integral_constant<int, 1>{});
  }

  // A tile against S strips from strip s on.
  template <int R, int S>
  void quants_of(const Strips& strips, int64_t s, Tile tile) const {
    f32x16 out[S][R];
    with_type(w.type, [&](auto t) {
      using L = typename LayoutOf<t()>::Opened;
      const int8_t* a = x->q.p + tile.row * input.columns;
      const float* scale = x->scale.p + tile.row * x->groups;
      const Side::Value* more = side + tile.row * x->groups * Side::items<L>();
      const Fetch fetch = ahead(tile);
      auto call = [&](auto kernel) {
        kernel(strips.at(s), strips.bytes, x->blocks, a, scale, more, fetch, out);
      };
      if constexpr (IN_CODES<LayoutOf<t()>> && S > 2) return;  // they are opened two by two
      if constexpr (IN_CODES<LayoutOf<t()>> && R < PAIRED && S == 1)
        if (from_codes())
          return multiply_codes<L, R>(open, strips.at(s), unit_bytes, x->groups, a, scale, more,
                                      fetch, out[0]);
#if MOTET_NEON
      call(multiply_neon<L, R, S>);
#else
      if constexpr (R < PAIRED) {
        if (R <= 2 && S == 1 && !fetch.bytes)
          call(multiply<L, R, S, 1, !(R <= 2 && S == 1)>);
        else
          call(multiply<L, R, S, 1>);
      } else if constexpr (L::Scales::BLOCKS > 1) {
        if (tuned.chains == 2)
          call(multiply_many<L, R, S, R>);
        else
          call(multiply_many<L, R, S, 8>);
      } else if (tuned.chains == 2) {
        call(multiply<L, R, S, 2>);
      } else {
        call(multiply<L, R, S, 1>);
      }
#endif
    });
    put<R, S>(s, tile, out);
  }

  template <int R, int S>
  void floats_of(int64_t s, Tile tile) const {
    const uint8_t* strips = w.data + s * w.strip_bytes;
    f32x16 out[S][R];
    if (w.type == BF16) {
      const Flushing flushing;
      with_way(input.dots, [&](auto way) {
        multiply_rows<decltype(way), R>(strips, w.strip_bytes, (w.columns + 1) / 2,
                                        rounded + tile.row * input.rounded_items(), ahead(tile),
                                        out);
      });
    } else {
      with_floats(w.type, [&](auto way) {
        multiply_rows<decltype(way), R>(strips, w.strip_bytes, w.columns,
                                        floats + tile.row * w.columns, ahead(tile), out);
      });
    }
    put<R, S>(s, tile, out);
  }

  template <int R, int S>
  void put(int64_t s, Tile tile, const f32x16 (&out)[S][R]) const {
    const f32x16 scale = f32x16::set(w.scale);
    for (int i = 0; i < S; i++) {
      const int64_t column = (s + i) * STRIP, rows = std::min<int64_t>(STRIP, w.rows - column);
      f32x16 more = f32x16::set(0);
      if (bias)
        more = rows == STRIP ? f32x16::load(bias + column) : load_part(bias + column, (int)rows);
      for (int r = 0; r < R; r++) {
        float* at = y + (tile.row + r) * w.rows + column;
        const f32x16 scaled = out[i][r] * scale, v = bias ? scaled + more : scaled;
        if (rows == STRIP)
          v.store(at);
        else
          store_part(at, (int)rows, v);
      }
    }
  }

  Input& input;
  const Matrix& w;
  float* y;
  const float* bias;  // of the matrix's rows; may be absent
  const Quantised* x = nullptr;
  const Side::Value* side = nullptr;
  const float* floats = nullptr;
  const uint32_t* rounded = nullptr;
  Opener open = nullptr;  // of weights in codes, that of their units
  int64_t unit_bytes = 0;
  const Tuning tuned = tuning();
  Load load;
  int64_t together;
  std::vector<int64_t> ends;  // of pieces, in strips
};

// All the products, their pieces shared out among the threads.
inline void multiply_all(ThreadPool& pool, const std::vector<Product>& products) {
  if (products.empty()) return;
  std::vector<int64_t> ends;
  for (const Product& p : products)
    ends.push_back((int64_t)p.ends.size() + (ends.empty() ? 0 : ends.back()));
  pool.run(ends.back(), [&](int piece, int) {
    const size_t i = std::upper_bound(ends.begin(), ends.end(), piece) - ends.begin();
    products[i].run(piece - (i ? ends[i - 1] : 0));
  });
}

inline void linear(ThreadPool& pool, const float* x, int64_t rows, int64_t columns,
                   const std::vector<const Matrix*>& weights, const std::vector<float*>& outputs,
                   const std::vector<const float*>& biases) {
  if (!rows) return;
  Input input(pool, x, rows, columns);
  std::vector<Product> products;
  for (size_t i = 0; i < weights.size(); i++)
    products.emplace_back(input, *weights[i], outputs[i], biases.empty() ? nullptr : biases[i]);
  multiply_all(pool, products);
}

// A row's blocks of quants, as floats.
template <class L>
void unpack_quants(const uint8_t* strip, int lane, int64_t blocks, float* out) {
  using S = typename L::Scales;
  float lanes[LANES];
  auto lane_of = [&](f32x16 v) {
    v.store(lanes);
    return lanes[lane];
  };
  float d = 0, m = 0;
  for (int64_t b = 0; b < blocks; b++) {
    const uint8_t* scales = strip + L::unit(b);
    const int i = (int)(b % S::BLOCKS);
    if (i == 0) {
      if constexpr (S::BLOCKS > 1) d = lane_of(S::d(scales));
      if constexpr (S::MINIMUM) m = lane_of(S::m(scales));
    }
    i32x16 open[8];
    L::Quants::open(strip + L::quants(b), open);
    uint8_t q[8][4 * STRIP];
    for (int j = 0; j < 8; j++) store_int(q[j], open[j]);
    for (int g = 0; g < S::GROUPS; g++) {
      float step = d, least = m;
      if constexpr (S::BLOCKS == 1) {
        step = lane_of(S::d(scales + g * STRIP));
      } else {
        const int at = S::place(i * S::GROUPS + g, lane);
        step *= (float)(int8_t)scales[S::S + at];
        if constexpr (S::MINIMUM) least *= (float)(int8_t)scales[S::T + at];
      }
      const int size = BLOCK / S::GROUPS;
      for (int c = g * size; c < (g + 1) * size; c++)
        out[b * BLOCK + c] = step * (float)(int8_t)(q[c / 4][lane * 4 + c % 4] - L::ZERO) - least;
    }
  }
}

// Row `row` of a matrix, as floats, but for the matrix's scale.
inline void unpack_row(const Matrix& w, int64_t row, float* out) {
  const uint8_t* strip = w.data + row / STRIP * w.strip_bytes;
  const int lane = (int)(row % STRIP);
  float lanes[LANES];
  if (w.type == BF16) {
    for (int64_t k = 0; k < w.columns; k++) {
      const uint32_t bits = (uint32_t)((const uint16_t*)strip)[pair_place(k, lane)] << 16;
      memcpy(out + k, &bits, 4);
    }
    return;
  }
  if (w.is_float()) {
    for (int64_t k = 0; k < w.columns; k++) {
      const uint8_t* p = strip + k * w.item_bytes * STRIP;
      with_floats(w.type, [&](auto way) { way.load(p).store(lanes); });
      out[k] = lanes[lane];
    }
    return;
  }
  with_type(w.type, [&](auto t) {
    using From = LayoutOf<t()>;
    using L = typename From::Opened;
    if constexpr (IN_CODES<From>) {
      alignas(64) uint8_t unit[L::UNIT_BYTES];
      for (int64_t k = 0; k < w.columns; k += SUPER) {
        From::opener()(strip + k / SUPER * From::UNIT_BYTES, unit);
        unpack_quants<L>(unit, lane, SUPER / BLOCK, out + k);
      }
    } else {
      unpack_quants<L>(strip, lane, w.columns / BLOCK, out);
    }
  });
}

}  // namespace
