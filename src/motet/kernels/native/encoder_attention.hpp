// Attention of encoders: whole sequences, each token seeing those before and after it.
//
// A query goes through its sequence's keys in blocks of 64, by position from 0, with an online
// softmax (Milakov, Gimelshein 2018). Blocks and keys that it may not see change nothing, to the
// bit. So nothing shows which sequences are beside its own, or which thread computes it.
#pragma once
#include "attention_block.hpp"

namespace {

constexpr int64_t ENCODER_ROWS = 128;  // queries × heads that share the opening of a block

struct EncoderAttention {
  const float *q, *k, *v;
  const int32_t* starts;  // [sequences + 1]
  int64_t sequences;
  int heads, kv_heads, head_dim, value_dim;
  float scale;
  int window;  // keys farther than this are not seen; 0: all are
  float softcap;
  const Rotary& rotary;
  Bias bias;
  float* out;

  int group() const { return heads / kv_heads; }
  int padded() const { return (value_dim + LANES - 1) / LANES * LANES; }
};

// Some queries of a sequence, for one KV head.
struct EncoderPart {
  int64_t sequence, kv_head, first, last;  // positions
};

class EncoderWorker {
 public:
  EncoderWorker(const EncoderAttention& a, int64_t rows)
      : a(a),
        state((int)rows, a.padded()),
        query(rows * a.head_dim),
        scores(rows * PAGE),
        keys((int64_t)a.head_dim * PAGE),
        values((int64_t)PAGE * a.padded()) {}

  void run(const EncoderPart& part) {
    const int64_t start = a.starts[part.sequence], length = a.starts[part.sequence + 1] - start;
    const int rows = (int)(part.last - part.first) * a.group(), padded = a.padded();
    load_queries(part, start);
    state.clear(rows, padded);
    const int64_t low = a.window ? std::max<int64_t>(0, part.first - a.window) : 0;
    const int64_t high = a.window ? std::min(length, part.last + a.window) : length;
    for (int64_t b = low / PAGE; b * PAGE < high; b++) {
      const int count = (int)std::min<int64_t>(PAGE, length - b * PAGE);
      open(part, start, b, count);
      const OpenKeys open_keys{keys.p};
      by_rows(rows, [&](auto R, int r) {
        score<R()>(open_keys, query.p + r * a.head_dim, a.head_dim, 0, scores.p + r * PAGE);
      });
      for (int r = 0; r < rows; r++) softmax(part, r, b, count);
      const OpenValues open_values{values.p, padded};
      by_rows(rows, [&](auto R, int r) {
        mix<R()>(open_values, scores.p + r * PAGE, 0, count, padded, state.values.p + r * padded);
      });
    }
    for (int r = 0; r < rows; r++) {
      const int64_t token = start + part.first + r / a.group();
      float* to =
          a.out + (token * a.heads + part.kv_head * a.group() + r % a.group()) * a.value_dim;
      const float inverse = 1 / state.total.p[r];
      for (int i = 0; i < a.value_dim; i++) to[i] = state.values.p[r * padded + i] * inverse;
    }
  }

 private:
  // A head's channels rotated by a position, pairs side by side, times `scale`.
  void rotated(const float* x, int64_t position, float scale, float* y, int64_t step) const {
    const Rotary& r = a.rotary;
    const float* cos = r.table + position * 2 * r.padded;
    for (int i = 0; i < r.half; i++) {
      const float x0 = x[first_channel(r, i)] * scale, x1 = x[second_channel(r, i)] * scale;
      y[2 * i * step] = x0 * cos[i] - x1 * cos[r.padded + i];
      y[(2 * i + 1) * step] = x0 * cos[r.padded + i] + x1 * cos[i];
    }
    for (int c = 2 * r.half; c < a.head_dim; c++) y[c * step] = x[c];
  }

  void load_queries(const EncoderPart& part, int64_t start) {
    const int group = a.group(), dim = a.head_dim;
    const float turned = a.rotary.scale * a.rotary.scale;
    float* y = query.p;
    for (int64_t p = part.first; p < part.last; p++)
      for (int h = 0; h < group; h++, y += dim) {
        const float* x = a.q + ((start + p) * a.heads + part.kv_head * group + h) * dim;
        rotated(x, p, turned, y, 1);
        for (int c = 0; c < dim; c++) y[c] *= a.scale;
      }
  }

  // Block b's keys, channel by channel, and its values; zeros beyond the sequence's end.
  void open(const EncoderPart& part, int64_t start, int64_t b, int count) {
    const int padded = a.padded();
    if (count < PAGE) {
      std::fill_n(keys.p, (int64_t)a.head_dim * PAGE, 0.0f);
    }
    for (int j = 0; j < count; j++) {
      const int64_t at = (start + b * PAGE + j) * a.kv_heads + part.kv_head;
      rotated(a.k + at * a.head_dim, b * PAGE + j, 1, keys.p + j, PAGE);
      float* to = values.p + j * padded;
      std::copy_n(a.v + at * a.value_dim, a.value_dim, to);
      std::fill(to + a.value_dim, to + padded, 0.0f);
    }
  }

  // Which of the first `count` keys of block b a query sees.
  uint64_t visible(int64_t position, int64_t b, int count) const {
    uint64_t seen = ~(uint64_t)0 >> (PAGE - count);
    if (!a.window) return seen;
    const int64_t oldest = position - a.window - b * PAGE, newest = position + a.window - b * PAGE;
    if (oldest >= PAGE || newest < 0) return 0;
    if (oldest > 0) seen &= ~(uint64_t)0 << oldest;
    if (newest < PAGE - 1) seen &= ((uint64_t)2 << newest) - 1;
    return seen;
  }

  // Scores to weights in place, and the row's state brought to the new greatest score.
  void softmax(const EncoderPart& part, int r, int64_t b, int count) {
    float* s = scores.p + r * PAGE;
    const int64_t position = part.first + r / a.group();
    const uint64_t seen = visible(position, b, count);
    if (!seen) return std::fill_n(s, PAGE, 0.0f), void();
    if (a.bias.table) {
      const int64_t head = part.kv_head * a.group() + r % a.group();
      raise(s, a.bias.of_zero(head) + b * PAGE - position);
    }
    weigh(state, r, s, seen, a.softcap, a.padded());
  }

  const EncoderAttention& a;
  State state;
  Buffer<float> query, scores, keys, values;
};

inline void attend(ThreadPool& threads, const EncoderAttention& a) {
  const int64_t queries = std::max<int64_t>(1, ENCODER_ROWS / a.group());
  std::vector<EncoderPart> parts;
  for (int64_t s = 0; s < a.sequences; s++) {
    const int64_t length = a.starts[s + 1] - a.starts[s];
    for (int64_t h = 0; h < a.kv_heads; h++)
      for (int64_t first = 0; first < length; first += queries)
        parts.push_back({s, h, first, std::min(length, first + queries)});
  }
  std::vector<std::unique_ptr<EncoderWorker>> workers(threads.threads());
  threads.run((int64_t)parts.size(), [&](int i, int thread) {
    auto& worker = workers[thread];
    if (!worker) worker = std::make_unique<EncoderWorker>(a, queries * a.group());
    worker->run(parts[i]);
  });
}

}  // namespace
