// Products of each head's own part of a row with a matrix of its own.
#pragma once
#include "elementwise.hpp"
#include "linear.hpp"

namespace {

// Numbers of every head of every token; a head's follow each other.
struct Heads {
  const float* data = nullptr;
  int64_t token = 0, head = 0;  // strides
  const float* at(int64_t t, int64_t h) const { return data + t * token + h * head; }
};

// out [rows][heads][first + w.rows]: `before` (first numbers), then the product.
inline void head_linear(ThreadPool& pool, const Heads& x, int64_t rows,
                        const std::vector<const Matrix*>& weights, const Heads& before,
                        int64_t first, float* out) {
  const int64_t heads = weights.size(), n = weights[0]->columns, made = weights[0]->rows;
  const int64_t width = first + made;
  if (!rows) return;
  // A product reads and writes whole rows that follow each other, so each head's are gathered. A
  // single token's lie so already.
  const bool single = rows == 1;
  Buffer<float> gathered(single ? 0 : heads * rows * n), each(single ? 0 : heads * rows * made);
  if (!single)
    in_parts(pool, rows, PART / (heads * n), [&](int64_t from, int64_t to) {
      for (int64_t h = 0; h < heads; h++)
        for (int64_t t = from; t < to; t++)
          memcpy(gathered.p + (h * rows + t) * n, x.at(t, h), n * sizeof(float));
    });
  std::vector<std::unique_ptr<Input>> inputs;
  std::vector<Product> products;
  for (int64_t h = 0; h < heads; h++) {
    const float* from = single ? x.at(0, h) : gathered.p + h * rows * n;
    inputs.push_back(std::make_unique<Input>(pool, from, rows, n));
    float* to = single ? out + h * width + first : each.p + h * rows * made;
    products.emplace_back(*inputs.back(), *weights[h], to);
  }
  multiply_all(pool, products);
  in_parts(pool, rows, PART / (heads * width), [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; t++)
      for (int64_t h = 0; h < heads; h++) {
        float* row = out + (t * heads + h) * width;
        if (first) memcpy(row, before.at(t, h), first * sizeof(float));
        if (!single) memcpy(row + first, each.p + (h * rows + t) * made, made * sizeof(float));
      }
  });
}

}  // namespace
