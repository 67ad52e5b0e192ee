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
#include "attention_tile.hpp"

namespace {

constexpr int QUERY_ROWS = 32;  // queries × heads that share the loading of a block

inline std::vector<QueryTile> query_tiles(const Attention& a) {
  const size_t most = std::max(1, QUERY_ROWS / a.group());
  std::vector<QueryTile> tiles;
  std::vector<int64_t> open;  // by table row: its unfinished tile
  for (int32_t t = 0; t < a.tokens; t++) {
    const int32_t row = a.rows[t], stage = a.extend.stage_of(t);
    if ((size_t)row >= open.size()) open.resize(row + 1, -1);
    if (open[row] < 0 || tiles[open[row]].tokens.size() >= most ||
        tiles[open[row]].stage != stage) {
      open[row] = (int64_t)tiles.size();
      tiles.push_back({row, stage, {}});
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
