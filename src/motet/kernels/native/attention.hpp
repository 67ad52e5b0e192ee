// Attention over paged keys and values.
//
// A page is a block of 64 positions, at the same place for every query that will ever read it. A
// query goes through its blocks in order with an online softmax (Milakov, Gimelshein 2018), starts
// afresh every CHUNK blocks, and merges the chunks in order. Blocks and keys that it may not see
// change nothing, to the bit. So neither the queries beside it, nor the number of threads, nor
// whether one thread takes all its chunks or each takes one can be seen in the result.
//
// Keys are stored un-rotated. A block's keys are turned by their place in the block, a query by its
// distance from the block's start.
#pragma once
#include "attention_block.hpp"

namespace {

constexpr int CHUNK = 8;        // blocks
constexpr int QUERY_ROWS = 32;  // queries × heads that share the loading of a block
constexpr int FEW = 4;          // rows up to which a block is opened on the fly

struct QueryTile {
  int32_t row;
  std::vector<int32_t> tokens;
};

// One thread's room for a tile of queries of one KV head.
class Worker {
 public:
  Worker(const Attention& a, int rows)
      : chunk(rows, a.pool.padded),
        all(rows, a.pool.padded),
        a(a),
        query((int64_t)rows * a.pool.head_dim),
        turned((int64_t)rows * a.pool.head_dim),
        scores((int64_t)rows * PAGE),
        keys((int64_t)a.pool.head_dim * PAGE),
        values((int64_t)PAGE * a.pool.padded) {}

  // Chunks [first, last) of a tile; `done(row, greatest, total, values)` gets what each row made of
  // each chunk, in order.
  template <class Done>
  void run(const QueryTile& tile, int kv_head, int64_t first, int64_t last, const Done& done) {
    const int rows = load_queries(tile, kv_head);
    int32_t lowest = INT32_MAX, highest = 0;
    for (int32_t t : tile.tokens) {
      lowest = std::min(lowest, a.positions[t]);
      highest = std::max(highest, a.positions[t]);
    }
    const int64_t begin = a.window ? std::max(0, lowest - a.window + 1) / PAGE : 0;
    const int64_t end = highest / PAGE + 1;
    for (int64_t c = first; c < last; c++) {
      chunk.clear(rows, a.pool.padded);
      for (int64_t b = std::max(begin, c * CHUNK); b < std::min(end, (c + 1) * CHUNK); b++)
        block(tile, kv_head, rows, b);
      for (int r = 0; r < rows; r++)
        done(r, chunk.greatest.p[r], chunk.total.p[r], chunk.values.p + r * a.pool.padded);
    }
  }

  State chunk, all;

 private:
  // Queries of the tile, scaled, pairs side by side.
  int load_queries(const QueryTile& tile, int kv_head) {
    const int dim = a.pool.head_dim, group = a.group();
    const float rotary_scale = a.scale * a.rotary.scale * a.rotary.scale;
    int rows = 0;
    for (int32_t t : tile.tokens)
      for (int h = 0; h < group; h++, rows++) {
        const float* x = a.q + ((int64_t)t * a.heads + kv_head * group + h) * dim;
        float* y = query.p + rows * dim;
        for (int i = 0; i < a.rotary.half; i++) {
          y[2 * i] = x[first_channel(a.rotary, i)] * rotary_scale;
          y[2 * i + 1] = x[second_channel(a.rotary, i)] * rotary_scale;
        }
        for (int c = 2 * a.rotary.half; c < dim; c++) y[c] = x[c] * a.scale;
      }
    return rows;
  }

  // Which keys of block b each query of the tile sees.
  uint64_t visible(uint64_t mask, int32_t position, int64_t b) const {
    const int64_t newest = position - b * PAGE;
    if (newest < 0) return 0;
    if (newest < PAGE - 1) mask &= ((uint64_t)2 << newest) - 1;
    if (a.window) {
      const int64_t oldest = newest - a.window + 1;
      if (oldest >= PAGE) return 0;
      if (oldest > 0) mask &= ~(uint64_t)0 << oldest;
    }
    return mask;
  }

  void block(const QueryTile& tile, int kv_head, int rows, int64_t b) {
    const int64_t entry = tile.row * a.table_width + b;
    const int32_t page = a.tables[entry];
    if (page < 0) return;
    uint64_t any = 0;
    for (int32_t t : tile.tokens) any |= visible(a.masks[entry], a.positions[t], b);
    if (!any) return;
    turn_queries(tile, rows, b);
    const uint8_t* head = a.pool.head(page, kv_head);
    const int first = __builtin_ctzll(any), last = PAGE - __builtin_clzll(any);
    switch (a.pool.kind) {
      case KIND_F32: return block_of<KIND_F32>(tile, rows, b, head, first, last);
      case KIND_F16: return block_of<KIND_F16>(tile, rows, b, head, first, last);
      case KIND_BF16: return block_of<KIND_BF16>(tile, rows, b, head, first, last);
      default: return block_of<KIND_Q8_0>(tile, rows, b, head, first, last);
    }
  }

  void turn_queries(const QueryTile& tile, int rows, int64_t b) {
    const int dim = a.pool.head_dim, group = a.group();
    for (int r = 0; r < rows; r++) {
      const int64_t distance = std::max<int64_t>(0, a.positions[tile.tokens[r / group]] - b * PAGE);
      const float* cos = a.rotary.table + distance * 2 * a.rotary.padded;
      const float* sin = cos + a.rotary.padded;
      const float* x = query.p + r * dim;
      float* y = turned.p + r * dim;
      for (int i = 0; i < a.rotary.half; i++) {
        y[2 * i] = x[2 * i] * cos[i] - x[2 * i + 1] * sin[i];
        y[2 * i + 1] = x[2 * i] * sin[i] + x[2 * i + 1] * cos[i];
      }
      for (int c = 2 * a.rotary.half; c < dim; c++) y[c] = x[c];
    }
  }

  template <int kind>
  void block_of(const QueryTile& tile, int rows, int64_t b, const uint8_t* head, int first,
                int last) {
    const int dim = a.pool.head_dim, half = a.rotary.half, padded = a.pool.padded;
    const PageKeys<kind> page_keys{a, head};
    const PageValues<kind> page_values{a, head};
    const uint64_t mask = a.masks[tile.row * a.table_width + b];
    if (rows <= FEW) {
      by_rows(rows, [&](auto R, int r) {
        score<R()>(page_keys, turned.p + r * dim, dim, half, scores.p + r * PAGE);
      });
      softmax(tile, rows, b, mask);
      by_rows(rows, [&](auto R, int r) {
        mix<R()>(page_values, scores.p + r * PAGE, first, last, padded,
                 chunk.values.p + r * padded);
      });
      return;
    }
    for (int i = 0; i < half; i++)
      for (int p = 0; p < PARTS; p++) {
        f32x16 x, y;
        page_keys.pair(i, p, x, y);
        x.store(keys.p + (2 * i) * PAGE + p * LANES);
        y.store(keys.p + (2 * i + 1) * PAGE + p * LANES);
      }
    for (int c = 2 * half; c < dim; c++)
      for (int p = 0; p < PARTS; p++) page_keys.single(c, p).store(keys.p + c * PAGE + p * LANES);
    for (int j = first; j < last; j++)
      for (int p = 0; p < padded / LANES; p++)
        page_values.load(j, p).store(values.p + j * padded + p * LANES);
    const OpenKeys open_keys{keys.p};
    const OpenValues open_values{values.p, padded};
    by_rows(rows, [&](auto R, int r) {
      score<R()>(open_keys, turned.p + r * dim, dim, half, scores.p + r * PAGE);
    });
    softmax(tile, rows, b, mask);
    by_rows(rows, [&](auto R, int r) {
      mix<R()>(open_values, scores.p + r * PAGE, first, last, padded, chunk.values.p + r * padded);
    });
  }

  template <class Function>
  static void by_rows(int rows, const Function& f) {
    int r = 0;
    for (; r + 4 <= rows; r += 4) f(std::integral_constant<int, 4>{}, r);
    for (; r + 2 <= rows; r += 2) f(std::integral_constant<int, 2>{}, r);
    for (; r < rows; r++) f(std::integral_constant<int, 1>{}, r);
  }

  // Scores to weights in place, and the running state brought to the new greatest score.
  void softmax(const QueryTile& tile, int rows, int64_t b, uint64_t mask) {
    const int group = a.group(), padded = a.pool.padded;
    for (int r = 0; r < rows; r++) {
      float* s = scores.p + r * PAGE;
      const uint64_t seen = visible(mask, a.positions[tile.tokens[r / group]], b);
      if (!seen) {
        std::fill_n(s, PAGE, 0.0f);
        continue;
      }
      if (a.softcap > 0) {
        const f32x16 cap = f32x16::set(a.softcap);
        for (int p = 0; p < PAGE; p += LANES) (cap * tanh(f32x16::load(s + p) / cap)).store(s + p);
      }
      if (~seen)
        for (int j = 0; j < PAGE; j++)
          if (!(seen >> j & 1)) s[j] = -INFINITY;
      f32x16 most = f32x16::load(s);
      for (int p = LANES; p < PAGE; p += LANES) most = maximum(most, f32x16::load(s + p));
      const float old = chunk.greatest.p[r], top = std::max(old, largest(most));
      f32x16 weight = f32x16::set(0);
      for (int p = 0; p < PAGE; p += LANES) {
        const f32x16 w = exp(f32x16::load(s + p) - f32x16::set(top));
        w.store(s + p);
        weight = weight + w;
      }
      const float fade = old == -INFINITY ? 0.0f : exp_one(old - top);
      chunk.total.p[r] = std::fma(chunk.total.p[r], fade, sum(weight));
      chunk.greatest.p[r] = top;
      if (fade != 1.0f) {
        float* v = chunk.values.p + r * padded;
        for (int i = 0; i < padded; i += LANES)
          (f32x16::load(v + i) * f32x16::set(fade)).store(v + i);
      }
    }
  }

  const Attention& a;
  Buffer<float> query, turned, scores, keys, values;
};

inline std::vector<QueryTile> query_tiles(const Attention& a) {
  const size_t most = std::max(1, QUERY_ROWS / a.group());
  std::vector<QueryTile> tiles;
  std::vector<int64_t> open;  // by table row: its unfinished tile
  for (int32_t t = 0; t < a.tokens; t++) {
    const int32_t row = a.rows[t];
    if ((size_t)row >= open.size()) open.resize(row + 1, -1);
    if (open[row] < 0 || tiles[open[row]].tokens.size() >= most) {
      open[row] = (int64_t)tiles.size();
      tiles.push_back({row, {}});
    }
    tiles[open[row]].tokens.push_back(t);
  }
  return tiles;
}

inline void attend(ThreadPool& threads, const Attention& a) {
  const int group = a.group(), padded = a.pool.padded, dim = a.pool.value_dim;
  const std::vector<QueryTile> tiles = query_tiles(a);
  int most_rows = 1;
  int64_t most_chunks = 1;
  for (const auto& tile : tiles) {
    most_rows = std::max(most_rows, (int)tile.tokens.size() * group);
    for (int32_t t : tile.tokens)
      most_chunks = std::max<int64_t>(most_chunks, a.positions[t] / (PAGE * CHUNK) + 1);
  }
  std::vector<std::unique_ptr<Worker>> workers(threads.threads());
  auto worker = [&](int thread) -> Worker& {
    if (!workers[thread]) workers[thread] = std::make_unique<Worker>(a, most_rows);
    return *workers[thread];
  };
  auto finish = [&](const QueryTile& tile, int kv_head, int r, float total, const float* values) {
    const int64_t head = (int64_t)tile.tokens[r / group] * a.heads + kv_head * group + r % group;
    const float inverse = total > 0 ? 1 / total : 0.0f;
    for (int i = 0; i < dim; i++) a.out[head * dim + i] = values[i] * inverse;
  };
  const int64_t tasks = (int64_t)tiles.size() * a.pool.kv_heads;
  if (most_chunks == 1 || tasks >= 4 * threads.threads()) {
    threads.run(tasks, [&](int task, int thread) {
      // The last tiles see most: begin with them.
      const auto& tile = tiles[tiles.size() - 1 - task / a.pool.kv_heads];
      const int kv_head = task % a.pool.kv_heads, rows = (int)tile.tokens.size() * group;
      Worker& w = worker(thread);
      w.all.clear(rows, padded);
      w.run(tile, kv_head, 0, most_chunks,
            [&](int r, float greatest, float total, const float* values) {
              merge(w.all.greatest.p[r], w.all.total.p[r], w.all.values.p + r * padded, greatest,
                    total, values, padded);
            });
      for (int r = 0; r < rows; r++)
        finish(tile, kv_head, r, w.all.total.p[r], w.all.values.p + r * padded);
    });
    return;
  }
  // Few queries over many keys: a task a chunk, merged in order afterwards.
  const int64_t size = (int64_t)most_rows * (padded + 2);
  Buffer<float> parts(tasks * most_chunks * size);
  threads.run(tasks * most_chunks, [&](int i, int thread) {
    const int64_t task = i / most_chunks, c = i % most_chunks;
    worker(thread).run(tiles[task / a.pool.kv_heads], (int)(task % a.pool.kv_heads), c, c + 1,
                       [&](int r, float greatest, float total, const float* values) {
                         float* part = parts.p + i * size + r * (padded + 2);
                         part[0] = greatest;
                         part[1] = total;
                         std::copy_n(values, padded, part + 2);
                       });
  });
  threads.run(tasks, [&](int task, int thread) {
    const auto& tile = tiles[task / a.pool.kv_heads];
    const int rows = (int)tile.tokens.size() * group;
    State& all = worker(thread).all;
    all.clear(rows, padded);
    for (int r = 0; r < rows; r++) {
      for (int64_t c = 0; c < most_chunks; c++) {
        const float* part = parts.p + (task * most_chunks + c) * size + r * (padded + 2);
        merge(all.greatest.p[r], all.total.p[r], all.values.p + r * padded, part[0], part[1],
              part + 2, padded);
      }
      finish(tile, task % a.pool.kv_heads, r, all.total.p[r], all.values.p + r * padded);
    }
  });
}

}  // namespace
