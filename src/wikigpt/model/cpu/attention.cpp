// Causal attention within documents on CPUs, after FlashAttention-2 (Dao 2023): scores live only in blocks
// that stay in the cache, the backward pass computes them again.
//
// Scores are held transposed, a row for a key and a column for a query: what belongs to a query (maximum, sum,
// first visible key) is then a vector that lies beside them, no reduction runs across a vector, and of the
// five products of the backward pass none needs its block of scores transposed.
// `attention.py` calls this file.

#include "vectors.h"

namespace {

constexpr int64_t kKeys = 64;     // keys in a block of scores
constexpr int64_t kQueries = 64;  // queries in a block of scores
constexpr float kLog2E = 1.44269504f, kLn2 = 0.69314718f;

// One sequence of one head: rows `stride` elements apart.
template <typename T>
struct Rows {
  T* data;
  int64_t stride;
  T* operator[](int64_t row) const { return data + row * stride; }
};

// Rows [n, dim] of floats, times a factor, to where they belong.
template <typename T>
void write_rows(const float* from, float factor, int64_t n, int64_t dim, Rows<T> to) {
  for (int64_t t = 0; t < n; t++, from += dim) {
    int64_t d = 0;
    for (; d + kLanes <= dim; d += kLanes) store_row(to[t] + d, load<Floats>(from + d) * factor);
    for (; d < dim; d++) to[t][d] = static_cast<T>(from[d] * factor);
  }
}

// The same from columns [dim, kQueries].
template <typename T>
void write_columns(const float* from, float factor, int64_t n, int64_t dim, Rows<T> to, Scratch scratch) {
  float* rows = scratch.take<float>(n * dim);
  transpose(reinterpret_cast<const Word*>(from), kQueries, dim, n, reinterpret_cast<Word*>(rows), dim);
  write_rows(rows, factor, n, dim, to);
}

// Which keys the queries of one block see: columns of scores compare their row's key against this.
struct Visible {
  alignas(64) int32_t first[kQueries];  // INT_MAX where there is no query: it sees nothing
  alignas(64) int32_t span[kQueries];   // last visible key (the query itself) - first
  int32_t lowest = INT_MAX, highest = INT_MIN;
  int64_t start;

  // False if a query has no key to see.
  bool set(const int32_t* first_key, int64_t start_, int64_t n_tokens) {
    start = start_;
    for (int64_t i = 0; i < kQueries; i++) {
      bool exists = start + i < n_tokens;
      first[i] = exists ? first_key[start + i] : INT_MAX;
      span[i] = exists ? static_cast<int32_t>(start + i) - first[i] : 0;
      if (exists && (first[i] < 0 || span[i] < 0)) return false;
      if (exists) lowest = std::min(lowest, first[i]);
      highest = std::max(highest, first[i]);
    }
    return true;
  }

  bool any(int64_t key) const { return lowest < key + kKeys; }
  bool all(int64_t key) const { return highest <= key && key + kKeys <= start + 1; }
  Words at(int64_t column, int64_t key) const {
    return (Words)(splat(key) - load<Words>(first + column) <= load<Words>(span + column));
  }
};

struct Shape {
  int64_t n_batch, n_heads, n_kv_heads, n_tokens, head_dim;
  float scale;
  int64_t query_blocks() const { return (n_tokens + kQueries - 1) / kQueries; }
  int64_t key_blocks() const { return (n_tokens + kKeys - 1) / kKeys; }
};

// P = 2^(scores - m) of one block into `words`; maximum m and sum l of each query move on, O with them.
template <bool masked, typename T>
void softmax_block(const float* scores, float scale, const Visible& visible, int64_t key, float* m, float* l, float* o,
                   int64_t head_dim, T* words) {
  for (int64_t column = 0; column < kQueries; column += kLanes) {
    Floats top = load<Floats>(m + column), before = top;
    for (int64_t row = 0; row < kKeys; row++) {
      Floats s = load<Floats>(scores + row * kQueries + column) * scale;
      if constexpr (masked) s = visible.at(column, key + row) ? s : before;
      top = larger(top, s);
    }
    Floats shrink = exp2(before - top), sum = load<Floats>(l + column) * shrink;
    auto probability = [&](int64_t row) {
      Floats p = exp2(load<Floats>(scores + row * kQueries + column) * scale - top);
      if constexpr (masked) p = visible.at(column, key + row) ? p : Floats{};
      sum += p;
      return p;
    };
    for (int64_t row = 0; row < kKeys; row += kPair<T>) {
      auto word = reinterpret_cast<Word*>(words) + row / kPair<T> * kQueries + column;
      if constexpr (kPair<T> == 1) {
        store(word, probability(row));
      } else {
        Words low = rounded(probability(row)) >> 16, high = rounded(probability(row + 1)) & 0xffff0000u;
        store(word, low | high);
      }
    }
    for (int64_t d = 0; d < head_dim; d++) {
      float* at = o + d * kQueries + column;
      store(at, load<Floats>(at) * shrink);
    }
    store(m + column, top);
    store(l + column, sum);
  }
}

template <typename T>
bool forward_head(const Shape& shape, Rows<const T> q, Rows<const T> k, const T* vt, const int32_t* first_key,
                  Rows<T> out, float* lse, Scratch scratch) {
  const int64_t n_tokens = shape.n_tokens, dim = shape.head_dim, ld = shape.key_blocks() * kKeys;
  T* qt = scratch.take<T>(dim * kQueries);
  T* p = scratch.take<T>(kKeys * kQueries);
  float* scores = scratch.take<float>(kKeys * kQueries);
  float* o = scratch.take<float>(dim * kQueries);
  float *m = scratch.take<float>(kQueries), *l = scratch.take<float>(kQueries);
  for (int64_t start = 0; start < n_tokens; start += kQueries) {
    int64_t n = std::min(kQueries, n_tokens - start);
    Visible visible;
    if (!visible.set(first_key, start, n_tokens)) return false;
    transpose(reinterpret_cast<const Word*>(q[start]), q.stride / kPair<T>, n, dim / kPair<T>,
              reinterpret_cast<Word*>(qt), kQueries);
    std::fill_n(m, kQueries, -FLT_MAX / 4);
    std::fill_n(l, kQueries, 0.0f);
    std::fill_n(o, dim * kQueries, 0.0f);
    for (int64_t key = visible.lowest / kKeys * kKeys; key < start + n; key += kKeys) {
      multiply(std::min(kKeys, n_tokens - key), kQueries, dim, k[key], k.stride, qt, scores, false);
      auto step = visible.all(key) ? softmax_block<false, T> : softmax_block<true, T>;
      step(scores, shape.scale * kLog2E, visible, key, m, l, o, dim, p);
      multiply(dim, kQueries, kKeys, vt + key, ld, p, o, true);
    }
    for (int64_t i = 0; i < n; i++) lse[start + i] = m[i] * kLn2 + std::log(l[i]);
    for (int64_t i = 0; i < kQueries; i++) l[i] = 1 / l[i];
    for (int64_t d = 0; d < dim; d++)
      for (int64_t i = 0; i < kQueries; i += kLanes)
        store(o + d * kQueries + i, load<Floats>(o + d * kQueries + i) * load<Floats>(l + i));
    write_columns(o, 1.0f, n, dim, Rows<T>{out[start], out.stride}, scratch);
  }
  return true;
}

// P and dS of one block: P as rows, dS as rows and as words.
template <bool masked, typename T>
void gradient_block(const float* scores, const float* dp, float scale, const Visible& visible, int64_t key,
                    const float* lse, const float* delta, T* p_rows, T* ds_rows, T* ds_words) {
  for (int64_t column = 0; column < kQueries; column += kLanes) {
    Floats top = load<Floats>(lse + column), mean = load<Floats>(delta + column);
    auto gradient = [&](int64_t row) {
      int64_t at = row * kQueries + column;
      Floats p = exp2(load<Floats>(scores + at) * scale - top);
      Floats ds = p * (load<Floats>(dp + at) - mean);
      if constexpr (masked) {
        Words seen = visible.at(column, key + row);
        p = seen ? p : Floats{};
        ds = seen ? ds : Floats{};
      }
      store_row(p_rows + at, p);
      store_row(ds_rows + at, ds);
      return ds;
    };
    for (int64_t row = 0; row < kKeys; row += kPair<T>) {
      if constexpr (kPair<T> == 1) {
        gradient(row);  // rows are words
      } else {
        Words low = rounded(gradient(row)) >> 16, high = rounded(gradient(row + 1)) & 0xffff0000u;
        store(reinterpret_cast<Word*>(ds_words) + row / 2 * kQueries + column, low | high);
      }
    }
  }
}

// A matrix X [n_tokens, dim] of queries, block by block as the right-hand side of a product: X and X^T.
template <typename T>
struct QueryWords {
  T *rows, *columns;

  void set(const Shape& shape, Rows<const T> x, Scratch& scratch) {
    const int64_t dim = shape.head_dim, size = dim * kQueries;
    rows = scratch.take<T>(shape.query_blocks() * size);
    columns = scratch.take<T>(shape.query_blocks() * size);
    for (int64_t start = 0; start < shape.n_tokens; start += kQueries) {
      int64_t n = std::min(kQueries, shape.n_tokens - start);
      T *r = rows + start * dim, *c = columns + start * dim;
      if (n < kQueries) {
        std::fill_n(r, size, T(0.0f));
        std::fill_n(c, size, T(0.0f));
      }
      pair_rows(x[start], x.stride, n, dim, reinterpret_cast<Word*>(r));
      transpose(reinterpret_cast<const Word*>(x[start]), x.stride / kPair<T>, n, dim / kPair<T>,
                reinterpret_cast<Word*>(c), kQueries);
    }
  }
};

// X^T [dim, keys] of X [n_tokens, dim] as the left-hand side of a product, zeros after the last token.
template <typename T>
T* transposed_rows(const Shape& shape, Rows<const T> x, Scratch& scratch) {
  const int64_t n_tokens = shape.n_tokens, dim = shape.head_dim, ld = shape.key_blocks() * kKeys;
  T* xt = scratch.take<T>(dim * ld);
  T* words = Scratch(scratch).take<T>(kKeys * dim);
  for (int64_t key = 0; key < n_tokens; key += kKeys) {
    int64_t n = std::min(kKeys, n_tokens - key);
    if (n < kKeys) std::fill_n(words, kKeys * dim, T(0.0f));
    pair_rows(x[key], x.stride, n, dim, reinterpret_cast<Word*>(words));
    transpose(reinterpret_cast<const Word*>(words), dim, kKeys / kPair<T>, dim,
              reinterpret_cast<Word*>(xt + key), ld / kPair<T>);
  }
  return xt;
}

// dQ of one query head; what it adds to dK and dV of its key head is left in `dk` and `dv` [n_tokens, dim].
template <typename T>
void backward_head(const Shape& shape, Rows<const T> q, Rows<const T> k, Rows<const T> v, const T* kt,
                   const Visible* visible, Rows<const T> out, const float* lse, Rows<const T> dout, Rows<T> dq,
                   float* dk, float* dv, bool add, Scratch scratch) {
  const int64_t n_tokens = shape.n_tokens, dim = shape.head_dim, blocks = shape.query_blocks();
  const int64_t ld = shape.key_blocks() * kKeys;
  QueryWords<T> qw, dow;
  qw.set(shape, q, scratch);
  dow.set(shape, dout, scratch);
  float *top = scratch.take<float>(blocks * kQueries), *delta = scratch.take<float>(blocks * kQueries);
  for (int64_t t = 0; t < n_tokens; t++) {
    top[t] = lse[t] * kLog2E;
    Floats sums{};
    int64_t d = 0;
    for (; d + kLanes <= dim; d += kLanes) sums += load_row(out[t] + d) * load_row(dout[t] + d);
    float sum = 0;
    for (int i = 0; i < kLanes; i++) sum += sums[i];
    for (; d < dim; d++) sum += static_cast<float>(out[t][d]) * static_cast<float>(dout[t][d]);
    delta[t] = sum;
  }
  float *scores = scratch.take<float>(kKeys * kQueries), *dp = scratch.take<float>(kKeys * kQueries);
  T *p_rows = scratch.take<T>(kKeys * kQueries), *ds_rows = scratch.take<T>(kKeys * kQueries);
  T* ds_words = kPair<T> == 1 ? ds_rows : scratch.take<T>(kKeys * kQueries);
  float* dqt = scratch.take<float>(blocks * kQueries * dim);
  std::fill_n(dqt, blocks * kQueries * dim, 0.0f);
  for (int64_t key = 0; key < n_tokens; key += kKeys) {
    int64_t n = std::min(kKeys, n_tokens - key);
    bool more = add;
    for (int64_t block = key / kQueries; block < blocks; block++) {
      if (!visible[block].any(key)) continue;
      int64_t start = block * kQueries, at = start * dim;
      multiply(n, kQueries, dim, k[key], k.stride, qw.columns + at, scores, false);
      multiply(n, kQueries, dim, v[key], v.stride, dow.columns + at, dp, false);
      auto step = visible[block].all(key) ? gradient_block<false, T> : gradient_block<true, T>;
      step(scores, dp, shape.scale * kLog2E, visible[block], key, top + start, delta + start, p_rows, ds_rows,
           ds_words);
      multiply(kKeys, dim, kQueries, p_rows, kQueries, dow.rows + at, dv + key * dim, more);
      multiply(kKeys, dim, kQueries, ds_rows, kQueries, qw.rows + at, dk + key * dim, more);
      multiply(dim, kQueries, kKeys, kt + key, ld, ds_words, dqt + at, true);
      more = true;
    }
  }
  for (int64_t start = 0; start < n_tokens; start += kQueries)
    write_columns(dqt + start * dim, shape.scale, std::min(kQueries, n_tokens - start), dim,
                  Rows<T>{dq[start], dq.stride}, scratch);
}

// A tensor [batch, heads, tokens, head_dim] whose last dimension is dense.
template <typename T>
struct Heads {
  T* data;
  int64_t batch_stride, head_stride, token_stride;
  Heads(const void* pointer, const int64_t* strides)
      : data(static_cast<T*>(const_cast<void*>(pointer))),
        batch_stride(strides[0]),
        head_stride(strides[1]),
        token_stride(strides[2]) {}
  Rows<T> at(int64_t batch, int64_t head) const {
    return {data + batch * batch_stride + head * head_stride, token_stride};
  }
};

template <typename T>
bool forward(const Shape& s, Heads<const T> q, Heads<const T> k, Heads<const T> v, const int32_t* first_key,
             Heads<T> out, float* lse, int n_threads) {
  const int64_t group = s.n_heads / s.n_kv_heads, n_tokens = s.n_tokens;
  const size_t bytes = 4 * ((s.key_blocks() + 5) * kKeys * s.head_dim + 2 * kKeys * kQueries) + 4096;
  bool valid = true;
  const Memory memories(0, bytes, n_threads);
#pragma omp parallel num_threads(n_threads) reduction(&& : valid)
  {
    Scratch memory = memories.of_thread();
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < s.n_batch * s.n_kv_heads; task++) {
      int64_t batch = task / s.n_kv_heads, kv_head = task % s.n_kv_heads;
      Scratch scratch = memory;
      const T* vt = transposed_rows(s, v.at(batch, kv_head), scratch);
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
        valid = forward_head(s, q.at(batch, head), k.at(batch, kv_head), vt, first_key + batch * n_tokens,
                             out.at(batch, head), lse + (batch * s.n_heads + head) * n_tokens, scratch) && valid;
    }
    blas::brgemm_release();
  }
  return valid;
}

template <typename T>
void backward(const Shape& s, Heads<const T> q, Heads<const T> k, Heads<const T> v, const int32_t* first_key,
              Heads<const T> out, const float* lse, Heads<const T> dout, Heads<T> dq, Heads<T> dk, Heads<T> dv,
              int n_threads) {
  const int64_t group = s.n_heads / s.n_kv_heads, n_tokens = s.n_tokens, padded = s.key_blocks() * kKeys;
  const int64_t queries = s.query_blocks() * kQueries;
  const size_t bytes = 4 * (3 * padded * s.head_dim + 5 * queries * s.head_dim + 2 * queries +
                            2 * kQueries * s.head_dim + 5 * kKeys * kQueries) +
                       s.query_blocks() * sizeof(Visible) + 4096;
  const Memory memories(0, bytes, n_threads);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch memory = memories.of_thread();
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < s.n_batch * s.n_kv_heads; task++) {
      int64_t batch = task / s.n_kv_heads, kv_head = task % s.n_kv_heads;
      Scratch scratch = memory;
      Visible* visible = scratch.take<Visible>(s.query_blocks());
      for (int64_t block = 0; block < s.query_blocks(); block++)
        (new (visible + block) Visible)->set(first_key + batch * n_tokens, block * kQueries, n_tokens);
      float *dk_sum = scratch.take<float>(padded * s.head_dim), *dv_sum = scratch.take<float>(padded * s.head_dim);
      const T* kt = transposed_rows(s, k.at(batch, kv_head), scratch);
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
        backward_head(s, q.at(batch, head), k.at(batch, kv_head), v.at(batch, kv_head), kt, visible,
                      out.at(batch, head), lse + (batch * s.n_heads + head) * n_tokens, dout.at(batch, head),
                      dq.at(batch, head), dk_sum, dv_sum, head > kv_head * group, scratch);
      write_rows(dk_sum, s.scale, n_tokens, s.head_dim, dk.at(batch, kv_head));
      write_rows(dv_sum, 1.0f, n_tokens, s.head_dim, dv.at(batch, kv_head));
    }
    blas::brgemm_release();
  }
}

}  // namespace

extern "C" {

// A tensor as Python passes it: where it lies and its first three strides, in elements.
struct Strided {
  void* data;
  int64_t strides[3];
};

// 1, or 0 where a first key is negative or comes after its own token.
int64_t wikigpt_attention_forward(int bf16, const Shape* s, const Strided* q, const Strided* k, const Strided* v,
                                  const int32_t* first_key, const Strided* out, float* lse, int n_threads) {
  auto run = [&](auto zero) -> int64_t {
    using T = decltype(zero);
    return forward<T>(*s, {q->data, q->strides}, {k->data, k->strides}, {v->data, v->strides}, first_key,
                      {out->data, out->strides}, lse, n_threads);
  };
  return guarded([&] { return bf16 ? run(BFloat16()) : run(0.0f); });
}

// What `forward` accepted it accepts: always 1.
int64_t wikigpt_attention_backward(int bf16, const Shape* s, const Strided* q, const Strided* k, const Strided* v,
                                   const int32_t* first_key, const Strided* out, const float* lse,
                                   const Strided* dout, const Strided* dq, const Strided* dk, const Strided* dv,
                                   int n_threads) {
  auto run = [&](auto zero) {
    using T = decltype(zero);
    backward<T>(*s, {q->data, q->strides}, {k->data, k->strides}, {v->data, v->strides}, first_key,
                {out->data, out->strides}, lse, {dout->data, dout->strides}, {dq->data, dq->strides},
                {dk->data, dk->strides}, {dv->data, dv->strides}, n_threads);
    return 1;
  };
  return guarded([&] { return bf16 ? run(BFloat16()) : run(0.0f); });
}
}
