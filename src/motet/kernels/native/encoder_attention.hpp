// Attention of encoders: whole sequences, each token seeing those before and after it.
//
// A query goes through its sequence's keys in spans of 512, by position from 0: the softmax of a
// span is computed in one go, and that of a longer sequence online (Milakov, Gimelshein 2018). Keys
// that it may not see change nothing, to the bit. So nothing shows which sequences are beside its
// own, or which thread computes it.
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

// One thread's buffers for some queries of a sequence.
class EncoderWorker {
 public:
  EncoderWorker(const EncoderAttention& a, int64_t rows)
      : a(a),
        state((int)rows, a.padded()),
        query(rows * a.head_dim),
        scores(KERNEL_ROWS * STRIDE),
        key(a.head_dim * LANES),
        keys(SPAN * a.head_dim),
        values(SPAN * a.padded()) {}

  void run(const EncoderPart& part) {
    const int64_t start = a.starts[part.sequence], length = a.starts[part.sequence + 1] - start;
    const int rows = (int)(part.last - part.first) * a.group(), padded = a.padded();
    load_queries(part, start);
    state.clear(rows, padded);
    const int64_t low = a.window ? std::max<int64_t>(0, part.first - a.window) : 0;
    const int64_t high = a.window ? std::min(length, part.last + a.window) : length;
    for (int64_t span = low / SPAN * SPAN; span < high; span += SPAN) {
      const int64_t first = std::max(span, low / PAGE * PAGE), last = std::min(span + SPAN, high);
      open(part, start, first, last);
      by_rows<KERNEL_ROWS>(rows, [&](auto R, int r) { some<R()>(part, r, first, last); });
    }
    for (int r = 0; r < rows; r++) {
      const int64_t token = start + part.first + r / a.group();
      const int64_t head = token * a.heads + part.kv_head * a.group() + r % a.group();
      float* to = a.out + head * a.value_dim;
      const float sound = soundness(a.q + head * a.head_dim, a.head_dim);
      const float inverse = 1 / state.total.p[r] * sound;
      for (int i = 0; i < a.value_dim; i++) to[i] = state.values.p[r * padded + i] * inverse;
    }
  }

 private:
  static constexpr int64_t SPAN = 8 * PAGE;        // keys whose scores a row has at a time
  static constexpr int64_t STRIDE = SPAN + LANES;  // of scores: rows must not meet in the cache

  // A head's channels rotated by a position, pairs side by side, times `scale`.
  void rotated(const float* x, int64_t position, float scale, float* y) const {
    const Rotary& r = a.rotary;
    const float* cos = r.table + position * 2 * r.padded;
    for (int i = 0; i < r.half; i++) {
      const float x0 = x[first_channel(r, i)] * scale, x1 = x[second_channel(r, i)] * scale;
      y[2 * i] = x0 * cos[i] - x1 * cos[r.padded + i];
      y[2 * i + 1] = x0 * cos[r.padded + i] + x1 * cos[i];
    }
    for (int c = 2 * r.half; c < a.head_dim; c++) y[c] = x[c];
  }

  void load_queries(const EncoderPart& part, int64_t start) {
    const int group = a.group(), dim = a.head_dim;
    const float turned = a.rotary.scale * a.rotary.scale;
    float* y = query.p;
    for (int64_t p = part.first; p < part.last; p++)
      for (int h = 0; h < group; h++, y += dim) {
        const float* x = a.q + ((start + p) * a.heads + part.kv_head * group + h) * dim;
        rotated(x, p, turned, y);
        for (int c = 0; c < dim; c++) y[c] *= a.scale;
      }
  }

  // Keys first … last − 1 in blocks, channel by channel, with zeros up to a whole vector, and their
  // values.
  void open(const EncoderPart& part, int64_t start, int64_t first, int64_t last) {
    const int dim = a.head_dim, padded = a.padded();
    for (int64_t b = first; b < last; b += LANES) {
      const int64_t count = std::min<int64_t>(LANES, last - b);
      const float* rows[LANES];
      for (int64_t j = 0; j < LANES; j++) {
        float* row = key.p + j * dim;
        rows[j] = row;
        if (j >= count) {
          std::fill_n(row, dim, 0.0f);
          continue;
        }
        const float* x = a.k + ((start + b + j) * a.kv_heads + part.kv_head) * dim;
        if (a.rotary.half)
          rotated(x, b + j, 1, row);
        else
          rows[j] = x;
      }
      float* to = keys.p + (b - first) / PAGE * PAGE * dim + (b - first) % PAGE;
      int c = 0;
      for (; c + 4 <= dim; c += 4)
        for (int j = 0; j < LANES; j += 4) {
          float4 v[4];
          for (int i = 0; i < 4; i++) v[i] = load4(rows[j + i] + c);
          transpose4(v);
          for (int i = 0; i < 4; i++) store4(to + (c + i) * PAGE + j, v[i]);
        }
      for (; c < dim; c++)
        for (int j = 0; j < LANES; j++) to[c * PAGE + j] = rows[j][c];
    }
    for (int64_t p = first; p < last; p++) {
      float* to = values.p + (p - first) * padded;
      std::copy_n(a.v + ((start + p) * a.kv_heads + part.kv_head) * a.value_dim, a.value_dim, to);
      std::fill(to + a.value_dim, to + padded, 0.0f);
    }
  }

  // R rows of the part against the keys that are open.
  template <int R>
  void some(const EncoderPart& part, int row, int64_t first, int64_t last) {
    const int dim = a.head_dim, padded = a.padded();
    const Queries q{nullptr, nullptr, query.p + row * dim, dim};
    Ahead nothing;
    for (int64_t b = first; b < last; b += PAGE) {
      const OpenKeys block{keys.p + (b - first) * dim};
      const int parts = (int)(std::min<int64_t>(PAGE, last - b) + LANES - 1) / LANES;
      score<R>(block, q, dim, 0, scores.p + b - first, parts, STRIDE, nothing);
    }
    for (int i = 0; i < R; i++) softmax(part, row + i, scores.p + i * STRIDE, first, last);
    mix<R>(OpenValues{values.p, padded}, scores.p, nullptr, 0, (int)(last - first), padded,
           state.values.p + row * padded, STRIDE, nothing);
  }

  // Scores of a row, of keys first … last − 1, to weights in place, and its state brought to the
  // new greatest score. Keys that it does not see have weight 0.
  void softmax(const EncoderPart& part, int row, float* s, int64_t first, int64_t last) {
    const int64_t position = part.first + row / a.group();
    const int64_t from = a.window ? std::max(first, position - a.window) - first : 0;
    const int64_t to = (a.window ? std::min(last, position + a.window + 1) : last) - first;
    const int64_t size = (last - first + LANES - 1) / LANES * LANES;
    if (from >= to) return std::fill_n(s, size, 0.0f), void();
    const float* bias =
        a.bias.table ? a.bias.of_zero(part.kv_head * a.group() + row % a.group()) + first - position
                     : nullptr;
    const f32x16 cap = f32x16::set(a.softcap);
    const int64_t begin = from / LANES * LANES, end = (to + LANES - 1) / LANES * LANES;
    f32x16 most = f32x16::set(-INFINITY);
    for (int64_t p = begin; p < end; p += LANES) {
      f32x16 x = f32x16::load(s + p);
      if (bias) x = x + f32x16::load(bias + p);
      if (a.softcap > 0) x = cap * tanh(x / cap);
      x.store(s + p);
      if (p < from) std::fill(s + p, s + from, -INFINITY);
      if (p + LANES > to) std::fill(s + to, s + p + LANES, -INFINITY);
      most = maximum(most, f32x16::load(s + p));
    }
    const float top = std::max(state.greatest.p[row], largest(most));
    f32x16 weight = f32x16::set(0);
    for (int64_t p = begin; p < end; p += LANES) {
      const f32x16 w = exp(f32x16::load(s + p) - f32x16::set(top));
      w.store(s + p);
      weight = weight + w;
    }
    std::fill(s, s + begin, 0.0f);
    std::fill(s + end, s + size, 0.0f);
    state.raise_to(row, top, sum(weight), a.padded());
  }

  const EncoderAttention& a;
  State state;
  Buffer<float> query, scores, key, keys, values;
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
