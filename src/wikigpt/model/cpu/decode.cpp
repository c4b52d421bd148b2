// One more token for a few texts: all layers of a Llama or Qwen3 and the head, in one call.
//
// Decoding reads every weight once for each token and does little else, so weights may be whole numbers of 8 bits, each
// row of a matrix with a scale, or bf16, or fp32; sums are fp32. Threads share the rows of each matrix and meet after
// it, five times a layer. `decode.py` calls this file.

#include "vectors.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif
#include <sched.h>

#include <atomic>

namespace {

typedef int8_t Bytes __attribute__((vector_size(kLanes)));

Floats load_row(const int8_t* from) {
#if defined(__AVX512F__)  // GCC would convert number by number
  return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load<__m128i>(from)));
#elif defined(__AVX2__)
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
  return __builtin_convertvector(load<Bytes>(from), Floats);
#endif
}

constexpr float kLog2E = 1.44269504f;

// A matrix [outputs, inputs]; scale null: its numbers are the weights.
struct Matrix {
  const void* weight;
  const float* scale;
};

struct Layer {
  const float *norm, *q_norm, *k_norm, *mlp_norm;  // gains; those of queries and keys may be null
  Matrix q, k, v, o, gate, up, down;
};

struct Shape {
  int64_t n_layers, width, n_heads, n_kv_heads, head_dim, hidden, vocabulary;
  int64_t kind;  // of the weights: 0 fp32, 1 bf16, 2 int8
  float eps;
};

struct State {
  int64_t n_rows, length, capacity;  // texts; tokens of each in the cache, padding included; and how many it holds
  const int64_t* padding;            // [rows]: tokens before a text begins
  float *keys, *values;              // [layers, rows, kv heads, capacity, head_dim]
  const float *cosines, *sines;      // [positions, head_dim]
};

// Where threads wait for each other. They spin a while first: the wait is shorter than falling asleep takes.
class Meeting {
 public:
  void wait(int n) {
    const int round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == n - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int64_t i = 0; round_.load(std::memory_order_acquire) == round; i++)
      if (i > 2000) sched_yield();
  }

 private:
  std::atomic<int> arrived_{0}, round_{0};
};

struct Part {
  int64_t begin, end;
};

Part share(int64_t n, int thread, int n_threads) { return {n * thread / n_threads, n * (thread + 1) / n_threads}; }

template <typename W>
float product(const W* w, const float* x, int64_t n) {
  constexpr int kSums = 4;
  Floats sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kLanes <= n; i += kSums * kLanes)
    for (int k = 0; k < kSums; k++) sums[k] += load_row(w + i + k * kLanes) * load<Floats>(x + i + k * kLanes);
  for (; i + kLanes <= n; i += kLanes) sums[0] += load_row(w + i) * load<Floats>(x + i);
  float rest = 0;
  for (; i < n; i++) rest += static_cast<float>(w[i]) * x[i];
  return rest + total((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// A weight is loaded once for so many texts.
constexpr int kTogether = 4;

template <typename W>
void products(const W* w, const float* x, int64_t stride, int64_t n, float* out) {
  Floats sums[kTogether] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats row = load_row(w + i);
    for (int k = 0; k < kTogether; k++) sums[k] += row * load<Floats>(x + k * stride + i);
  }
  for (int k = 0; k < kTogether; k++) {
    float rest = 0;
    for (int64_t j = i; j < n; j++) rest += static_cast<float>(w[j]) * x[k * stride + j];
    out[k] = rest + total(sums[k]);
  }
}

// Calls `to(row, output, value)` for outputs `part` of m x, x [rows, n].
template <typename W, typename To>
void times(const Matrix& m, int64_t n, const float* x, int64_t n_rows, Part part, To to) {
  for (int64_t output = part.begin; output < part.end; output++) {
    const W* w = static_cast<const W*>(m.weight) + output * n;
    const float scale = m.scale ? m.scale[output] : 1.0f;
    int64_t row = 0;
    for (; row + kTogether <= n_rows; row += kTogether) {
      float found[kTogether];
      products(w, x + row * n, n, n, found);
      for (int k = 0; k < kTogether; k++) to(row + k, output, found[k] * scale);
    }
    for (; row < n_rows; row++) to(row, output, product(w, x + row * n, n) * scale);
  }
}

void normalise(const float* x, const float* gain, int64_t n, float eps, float* to) {
  const float r = 1 / std::sqrt(product(x, x, n) / n + eps);
  along_row(n, [&](int64_t i, auto at) {
    auto y = at(x) * r * at(gain);
    if constexpr (std::is_same_v<decltype(y), float>)
      to[i] = y;
    else
      store(to + i, y);
  });
}

// Norms a head if it has a gain, and turns its halves by the position's angles.
void turn(float* head, const float* gain, const float* cosines, const float* sines, int64_t n, float eps) {
  if (gain) normalise(head, gain, n, eps, head);
  for (int64_t i = 0; i < n / 2; i++) {
    const float a = head[i], b = head[i + n / 2];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + n / 2] = b * cosines[i + n / 2] + a * sines[i + n / 2];
  }
}

// What a head reads of its text: the values, weighed by the softmax of its products with the keys.
void attend(const float* q, const float* keys, const float* values, int64_t n, int64_t head_dim, float* scores,
            float* out) {
  const float factor = kLog2E / std::sqrt(static_cast<float>(head_dim));
  float most = -FLT_MAX;
  for (int64_t t = 0; t < n; t++) most = std::max(most, scores[t] = product(keys + t * head_dim, q, head_dim) * factor);
  Floats sums = {};
  int64_t done = 0;
  for (; done + kLanes <= n; done += kLanes) {
    const Floats weight = exp2(load<Floats>(scores + done) - most);
    store(scores + done, weight);
    sums += weight;
  }
  float sum = total(sums);
  for (; done < n; done++) sum += scores[done] = std::exp2(scores[done] - most);
  std::fill_n(out, head_dim, 0.0f);
  for (int64_t t = 0; t < n; t++) {
    const float weight = scores[t] / sum;
    const float* value = values + t * head_dim;
    for (int64_t i = 0; i < head_dim; i++) out[i] += weight * value[i];
  }
}

template <typename W>
void decode(const Shape& s, const Layer* layers, const float* last_norm, const Matrix& head, const State& state,
            float* x, float* logits, int n_threads) {
  const int64_t rows = state.n_rows, d = s.head_dim, q_width = s.n_heads * d, kv_width = s.n_kv_heads * d;
  const int64_t per_group = s.n_heads / s.n_kv_heads;
  const size_t shared = sizeof(float) * rows * (2 * q_width + 2 * kv_width + s.hidden) + 5 * 64;
  const size_t own = sizeof(float) * (rows * s.width + state.length + 1) + 2 * 64;
  Memory memory(shared, own, n_threads);
  Scratch scratch = memory.shared;
  float* q = scratch.take<float>(rows * q_width);
  float* k = scratch.take<float>(rows * kv_width);
  float* v = scratch.take<float>(rows * kv_width);
  float* y = scratch.take<float>(rows * q_width);
  float* h = scratch.take<float>(rows * s.hidden);
  memory.shared = scratch;
  Meeting meeting;
#pragma omp parallel num_threads(n_threads)
  {
    const int me = omp_get_thread_num(), n_there = omp_get_num_threads();  // which may be fewer than asked for
    Scratch mine = memory.of_thread();
    float* n = mine.take<float>(rows * s.width);
    float* scores = mine.take<float>(state.length + 1);
    auto part = [&](int64_t outputs) { return share(outputs, me, n_there); };
    auto norm = [&](const float* gain) {  // by each thread for itself: one meeting less
      for (int64_t row = 0; row < rows; row++) normalise(x + row * s.width, gain, s.width, s.eps, n + row * s.width);
    };
    auto into = [](float* to, int64_t width) {
      return [=](int64_t row, int64_t output, float value) { to[row * width + output] = value; };
    };
    auto onto = [](float* to, int64_t width) {
      return [=](int64_t row, int64_t output, float value) { to[row * width + output] += value; };
    };
    for (int64_t l = 0; l < s.n_layers; l++) {
      const Layer& layer = layers[l];
      norm(layer.norm);
      times<W>(layer.q, s.width, n, rows, part(q_width), into(q, q_width));
      times<W>(layer.k, s.width, n, rows, part(kv_width), into(k, kv_width));
      times<W>(layer.v, s.width, n, rows, part(kv_width), into(v, kv_width));
      meeting.wait(n_there);
      const Part groups = part(rows * s.n_kv_heads);
      for (int64_t group = groups.begin; group < groups.end; group++) {
        const int64_t row = group / s.n_kv_heads, kv = group % s.n_kv_heads, first = state.padding[row];
        const float *cosines = state.cosines + (state.length - first) * d, *sines = state.sines + (state.length - first) * d;
        const int64_t start = ((l * rows + row) * s.n_kv_heads + kv) * state.capacity * d;
        float *key = k + row * kv_width + kv * d, *keys = state.keys + start, *values = state.values + start;
        turn(key, layer.k_norm, cosines, sines, d, s.eps);
        std::memcpy(keys + state.length * d, key, d * sizeof(float));
        std::memcpy(values + state.length * d, v + row * kv_width + kv * d, d * sizeof(float));
        for (int64_t i = kv * per_group; i < (kv + 1) * per_group; i++) {
          float* query = q + row * q_width + i * d;
          turn(query, layer.q_norm, cosines, sines, d, s.eps);
          attend(query, keys + first * d, values + first * d, state.length + 1 - first, d, scores,
                 y + row * q_width + i * d);
        }
      }
      meeting.wait(n_there);
      times<W>(layer.o, q_width, y, rows, part(s.width), onto(x, s.width));
      meeting.wait(n_there);
      norm(layer.mlp_norm);
      const Part hidden = part(s.hidden);
      times<W>(layer.gate, s.width, n, rows, hidden, into(h, s.hidden));
      times<W>(layer.up, s.width, n, rows, hidden, [&](int64_t row, int64_t output, float value) {
        float& gate = h[row * s.hidden + output];
        gate *= value / (1 + std::exp(-gate));
      });
      meeting.wait(n_there);
      times<W>(layer.down, s.hidden, h, rows, part(s.width), onto(x, s.width));
      meeting.wait(n_there);
    }
    norm(last_norm);
    times<W>(head, s.width, n, rows, part(s.vocabulary), into(logits, s.vocabulary));
  }
}

}  // namespace

extern "C" {

// `x` [rows, width] are the new tokens' embeddings, and are overwritten; `logits` [rows, vocabulary].
int64_t wikigpt_decode(int, const Shape* s, const Layer* layers, const float* last_norm, const Matrix* head,
                       const State* state, float* x, float* logits, int n_threads) {
  return guarded([&] {
    (s->kind == 2 ? decode<int8_t> : s->kind == 1 ? decode<BFloat16> : decode<float>)(*s, layers, last_norm, *head,
                                                                                    *state, x, logits, n_threads);
    return 0;
  });
}
}
