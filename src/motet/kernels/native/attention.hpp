// Attention over paged keys and values.
//
// A page is a block of 64 positions, at the same place for every query that will ever read it. A
// query goes through its blocks in order with an online softmax (Milakov, Gimelshein 2018), starts
// afresh every CHUNK blocks, and merges the chunks in order. Blocks and keys that it may not see
// change nothing, to the bit. So neither the queries beside it, nor the number of threads, nor
// which thread takes which chunks can be seen in the result.
//
// Keys are stored un-rotated. A block's keys are rotated by their place in the block, a query by
// its distance from the block's start.
#pragma once
#include "attention_tile.hpp"

namespace {

inline std::vector<QueryTile> query_tiles(const Attention& a) {
  const size_t most = std::max(1, QUERY_ROWS / a.group());
  std::vector<QueryTile> tiles;
  std::vector<int64_t> open;  // by table row: its unfinished tile
  for (int32_t t = 0; t < a.tables.tokens(); t++) {
    const int32_t row = a.tables.rows[t], stage = a.extend.stage_of(t);
    if ((size_t)row >= open.size()) open.resize(row + 1, -1);
    if (open[row] < 0 || tiles[open[row]].tokens.size() >= most ||
        tiles[open[row]].stage != stage) {
      open[row] = (int64_t)tiles.size();
      tiles.push_back({row, stage, {}, 0, 0});
    }
    tiles[open[row]].tokens.push_back(t);
  }
  for (auto& tile : tiles) {
    int32_t lowest = INT32_MAX, highest = 0;
    for (int32_t t : tile.tokens) {
      lowest = std::min(lowest, a.tables.positions[t]);
      highest = std::max(highest, a.tables.positions[t]);
    }
    tile.begin = a.window ? std::max(0, lowest - a.window + 1) / PAGE : 0;
    tile.end = highest / PAGE + 1;
  }
  return tiles;
}

// A tile and one of its KV heads, or some of their chunks.
struct Part {
  int64_t task, first, last;  // chunks
  int64_t saved = -1;         // where the rows of the first chunk are kept for merging; -1: nowhere
};

inline void attend(ThreadPool& threads, const Attention& a) {
  const int group = a.group(), padded = a.padded(), dim = a.value_dim;
  const int64_t kv_heads = a.pool.kv_heads, size = padded + 2;
  const std::vector<QueryTile> tiles = query_tiles(a);
  auto tile_of = [&](int64_t task) -> const QueryTile& { return tiles[task / kv_heads]; };
  auto rows_of = [&](int64_t task) { return (int)tile_of(task).tokens.size() * group; };
  int most_rows = 1;
  int64_t chunks = 0;
  for (const auto& tile : tiles) {
    most_rows = std::max(most_rows, (int)tile.tokens.size() * group);
    chunks += tile.chunks() * kv_heads;
  }
  // A task that is a good part of all there is to do is cut, so that the threads finish together.
  const int64_t most_chunks = std::max<int64_t>(1, chunks / (4 * threads.threads()));
  std::vector<Part> parts, cut;
  int64_t saved = 0;
  // The last tiles see most: begin with them.
  for (int64_t task = (int64_t)tiles.size() * kv_heads - 1; task >= 0; task--) {
    const int64_t first = tile_of(task).first_chunk(), last = first + tile_of(task).chunks();
    if (last - first <= most_chunks) {
      parts.push_back({task, first, last});
      continue;
    }
    cut.push_back({task, first, last, saved});
    for (int64_t c = first; c < last; c += most_chunks)
      parts.push_back(
          {task, c, std::min(last, c + most_chunks), saved + (c - first) * rows_of(task)});
    saved += (last - first) * rows_of(task);
  }
  std::vector<std::unique_ptr<Worker>> workers(threads.threads());
  auto worker = [&](int thread) -> Worker& {
    if (!workers[thread]) workers[thread] = std::make_unique<Worker>(a, most_rows);
    return *workers[thread];
  };
  auto finish = [&](int64_t task, int r, const State& all) {
    const int64_t token = tile_of(task).tokens[r / group];
    const int64_t head = token * a.heads + task % kv_heads * group + r % group;
    const float total = all.total.p[r], greatest = all.greatest.p[r];
    float share = total > 0 ? 1 / total : 0.0f;
    if (a.sinks) {  // one more score, of a value of zeros
      const float sink = a.sinks[head % a.heads], top = std::max(sink, greatest);
      const float kept = exp_one(greatest - top);
      share = kept / std::fma(total, kept, exp_one(sink - top));
    }
    const float inverse = share * soundness(a.q + head * a.pool.head_dim, a.pool.head_dim);
    for (int i = 0; i < dim; i++) a.out[head * dim + i] = all.values.p[r * padded + i] * inverse;
  };
  Buffer<float> kept(saved * size);  // greatest score, sum of weights, values
  threads.run((int64_t)parts.size(), [&](int i, int thread) {
    const Part& part = parts[i];
    const int rows = rows_of(part.task);
    Worker& w = worker(thread);
    if (part.saved < 0) w.all.clear(rows, padded);
    float* to = part.saved < 0 ? nullptr : kept.p + part.saved * size;
    w.run(tile_of(part.task), (int)(part.task % kv_heads), part.first, part.last,
          [&](int r, float greatest, float total, const float* values) {
            if (part.saved < 0) return w.all.join(r, greatest, total, values, padded);
            to[0] = greatest;
            to[1] = total;
            std::copy_n(values, padded, to + 2);
            to += size;
          });
    if (part.saved < 0)
      for (int r = 0; r < rows; r++) finish(part.task, r, w.all);
  });
  threads.run((int64_t)cut.size(), [&](int i, int thread) {
    const Part& part = cut[i];
    const int rows = rows_of(part.task);
    State& all = worker(thread).all;
    all.clear(rows, padded);
    const float* from = kept.p + part.saved * size;
    for (int64_t c = part.first; c < part.last; c++)
      for (int r = 0; r < rows; r++, from += size) all.join(r, from[0], from[1], from + 2, padded);
    for (int r = 0; r < rows; r++) finish(part.task, r, all);
  });
}

}  // namespace
