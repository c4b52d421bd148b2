// Cross-entropy of a language model's head on CPUs without the logits of all rows, after Cut Cross-Entropy (Wijmans
// et al. 2024): the forward pass keeps two numbers a row, the backward pass computes logits again.
//
// Each thread takes blocks of the vocabulary, and all rows for each: the gradient of a block of the head stays in
// the cache until it is complete, and the head is converted once. Logits are held transposed, a line for a word and
// a column for a row of hidden states: no reduction runs across a vector, and the head is the left-hand side of all
// products, which needs no packing. 32 x 32 of them exist at a time, twice: one square is multiplied while
// exponentials are taken of the one before it. Rows without a target are left out before anything is computed.
//
// Inside, widths, rows and words are rounded up to panels of 32, with zeros. `cross_entropy.py` calls this file.

#include "tiles.h"

namespace {

constexpr int64_t kIgnored = -100;  // a target that carries no loss
constexpr int64_t kTile = 256;      // rows that a block of the head is multiplied with at a time
constexpr int64_t kSquare = kPanel * kPanel;
constexpr int kVectors = kPanel / kLanes;  // in a line of a square
constexpr float kLog2E = 1.44269504f;
constexpr float kNever = -FLT_MAX / 4;  // a logit whose exponential is none

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
int64_t round_up(int64_t n, int64_t to) { return divide_up(n, to) * to; }

struct Inputs {
  int64_t n_rows, width, vocab;
  const float *hidden, *head, *bias;  // bias may be null
  const int64_t* targets;

  int64_t depth() const { return round_up(width, kPanel); }
};

// What is kept of each row: the logarithms of the sum of exp(logit), and of the target's probability. The latter is
// exact where it is almost 0, the difference of logit and sum is not.
struct Kept {
  float *log_sum, *log_probability;
};

// How the work is cut for a number of threads.
struct Cut {
  int64_t words;  // in a block
  int64_t rows;   // at a time: so many that the threads' shares of dHidden take 64 MB in all

  Cut(const Inputs& in, int n_threads) {
    const int64_t n_blocks = round_up(divide_up(in.vocab, 512), n_threads);
    words = round_up(divide_up(in.vocab, n_blocks), kPanel);
    rows = std::max((int64_t(1) << 24) / (in.depth() * n_threads) / kTile, int64_t(1)) * kTile;
  }
};

// Where row and column of a left-hand factor with k columns lie: its panels of 32 rows are packed.
template <typename T>
int64_t place(int64_t row, int64_t column, int64_t k) {
  const int64_t run = Multiplier::run<T>(k);
  return row / kPanel * kPanel * k + column / run * run * kPanel + row % kPanel * run + column % run;
}

// Floats as T, then zeros up to `ld`.
template <typename T>
void convert_row(const float* from, int64_t width, T* to, int64_t ld) {
  int64_t d = 0;
  for (; d + kLanes <= width; d += kLanes) store_row(to + d, load<Floats>(from + d));
  for (; d < width; d++) to[d] = static_cast<T>(from[d]);
  for (; d < ld; d++) to[d] = static_cast<T>(0.0f);
}

// Up to kTile rows with targets, as right-hand sides of products; `n` counts rows of zeros at the end too.
template <typename T>
struct Tile {
  T *columns, *rows;  // in words, X^T in panels [depth, 32] and, in the backward pass, X in panels [n, 32]
  int64_t* index;     // which rows these are, in each panel by rising target
  int32_t* targets;
  int64_t count, n;

  void take(int64_t count_, int64_t depth, bool with_rows, Scratch& scratch) {
    count = count_;
    n = round_up(count, kPanel);
    columns = scratch.take<T>(n * depth);
    rows = with_rows ? scratch.take<T>(n * depth) : nullptr;
    index = scratch.take<int64_t>(count);
    targets = scratch.take<int32_t>(count);
  }

  void set(const Inputs& in, const int64_t* chosen, Scratch scratch) {
    const int64_t depth = in.depth();
    std::copy_n(chosen, count, index);
    for (int64_t i = 0; i < count; i += kPanel)
      std::sort(index + i, index + std::min(count, i + kPanel), [&](int64_t a, int64_t b) {
        return std::pair(in.targets[a], a) < std::pair(in.targets[b], b);
      });
    T* dense = scratch.take<T>(n * depth);
    for (int64_t i = 0; i < count; i++) {
      targets[i] = static_cast<int32_t>(in.targets[index[i]]);
      convert_row(in.hidden + index[i] * in.width, in.width, dense + i * depth, depth);
    }
    std::fill_n(dense + count * depth, (n - count) * depth, static_cast<T>(0.0f));
    for (int64_t i = 0; i < n; i += kPanel)
      transpose(reinterpret_cast<const Word*>(dense + i * depth), depth / kPair<T>, kPanel, depth / kPair<T>,
                reinterpret_cast<Word*>(columns + i * depth), kPanel);
    for (int64_t d = 0; rows && d < depth; d += kPanel)
      pair_rows(dense + d, depth, n, kPanel, reinterpret_cast<Word*>(rows + d * n));
  }

  // Calls `visit(word, column)` for the rows of a panel whose targets are among the words [first, last).
  template <typename F>
  void each_target(int64_t panel, int64_t first, int64_t last, F visit) const {
    const int32_t *begin = targets + panel, *end = targets + std::min(count, panel + kPanel);
    for (auto at = std::lower_bound(begin, end, first); at < end && *at < last; at++) visit(*at - first, at - begin);
  }
};

// Rows [start, start + count) of those with targets, as tiles.
template <typename T>
struct Tiles {
  std::vector<Tile<T>> tiles;
  const int64_t* chosen;

  static size_t bytes(const Inputs& in, int64_t rows) {
    return round_up(rows, kPanel) * (2 * sizeof(T) * in.depth() + 12) + (rows / kTile + 1) * 256;
  }

  Tiles(const Inputs& in, const int64_t* chosen_, int64_t n_rows, bool with_rows, Scratch& scratch)
      : tiles(divide_up(n_rows, kTile)), chosen(chosen_) {
    for (int64_t i = 0; i < size(); i++)
      tiles[i].take(std::min(kTile, n_rows - i * kTile), in.depth(), with_rows, scratch);
  }

  int64_t size() const { return tiles.size(); }
  const Tile<T>& operator[](int64_t i) const { return tiles[i]; }
  void set(const Inputs& in, int64_t i, Scratch scratch) { tiles[i].set(in, chosen + i * kTile, scratch); }
};

// A block of the head W as the left-hand side of products.
template <typename T>
struct Block {
  int64_t start, words, padded, depth;  // `words` of the vocabulary, with zeros `padded`
  T *rows, *columns;     // packed, W [padded, depth] and, in the backward pass, W^T [depth, padded]
  float *bias, *biases;  // one for each word; `bias` is null where they are all 0

  static size_t bytes(const Cut& cut, const Inputs& in) {
    return cut.words * (2 * sizeof(T) * in.depth() + sizeof(float)) + 4 * kSquare + 512;
  }

  Block(const Cut& cut, const Inputs& in, bool with_columns, Scratch& scratch) : depth(in.depth()) {
    rows = scratch.take<T>(cut.words * depth);
    columns = with_columns ? scratch.take<T>(cut.words * depth) : nullptr;
    biases = scratch.take<float>(cut.words);
  }

  void set(const Cut& cut, const Inputs& in, int64_t number, Scratch scratch) {
    start = number * cut.words;
    words = std::min(cut.words, in.vocab - start);
    padded = round_up(words, kPanel);
    for (int64_t w = 0; w < padded; w++) {
      const int64_t width = w < words ? in.width : 0;
      for (int64_t d = 0; d < depth; d += kPanel)
        convert_row(in.head + (start + w) * in.width + d, std::clamp<int64_t>(width - d, 0, kPanel),
                    rows + place<T>(w, d, depth), kPanel);
      biases[w] = !width ? kNever : in.bias ? in.bias[start + w] : 0.0f;
    }
    bias = in.bias || words < padded ? biases : nullptr;
    Word* pairs = scratch.take<Word>(kSquare);
    for (int64_t w = 0; columns && w < padded; w += kPanel)
      for (int64_t d = 0; d < depth; d += kPanel) {
        pair_rows(rows + place<T>(w, d, depth), Multiplier::run<T>(depth), kPanel, kPanel, pairs);
        transpose(pairs, kPanel, kPanel / kPair<T>, kPanel, reinterpret_cast<Word*>(columns + place<T>(d, w, padded)),
                  Multiplier::run<T>(padded) / kPair<T>);
      }
  }

  // The logits of a panel of rows, square by square: calls `begin(word, logits)` when one is there, `work(word, logits,
  // first, last)` for its lines, two at a time, beside the product of the next one, and `end(word, logits)`.
  template <typename Begin, typename Work, typename End>
  void each_square(const Multiplier& multiply, const T* panel, float* squares, Begin begin, Work work, End end) const {
    const int64_t lines = divide_up(kPanel / 2, depth / kPanel) * 2;
    multiply.packed(depth, rows, panel, squares, kPanel, false);
    for (int64_t word = 0; word < padded; word += kPanel) {
      const int64_t next = word + kPanel;
      float *logits = squares + word / kPanel % 2 * kSquare, *to = squares + next / kPanel % 2 * kSquare;
      for (int64_t line = 0; bias && line < kPanel; line++)
        for (int64_t i = line * kPanel; i < (line + 1) * kPanel; i += kLanes)
          store(logits + i, load<Floats>(logits + i) + bias[word + line]);
      begin(word, logits);
      int64_t line = 0;
      if (next < padded)
        multiply.packed(depth, rows + next * depth, panel, to, kPanel, false, [&] {
          const int64_t first = line;
          work(word, logits, first, line = std::min(kPanel, first + lines));
        });
      else
        work(word, logits, 0, kPanel);
      end(word, logits);
    }
  }
};

// Returns the loss.
template <typename T>
double forward(const Inputs& in, const std::vector<int64_t>& chosen, const Kept& kept, int n_threads) {
  const Cut cut(in, n_threads);
  const int64_t n_chosen = chosen.size(), n_blocks = divide_up(in.vocab, cut.words), depth = in.depth();
  for (int64_t start = 0; start < n_chosen; start += cut.rows) {
    const int64_t n_rows = std::min(cut.rows, n_chosen - start), padded = round_up(n_rows, kPanel);
    const size_t shared_bytes = Tiles<T>::bytes(in, n_rows) + 4 * padded + 4096;
    const size_t bytes = Block<T>::bytes(cut, in) + kTile * depth * sizeof(T) + 4 * (2 * padded + 2 * kSquare) + 4096;
    Memory memory(shared_bytes, bytes, n_threads);
    Tiles<T> tiles(in, chosen.data() + start, n_rows, false, memory.shared);
    float* target_logits = memory.shared.take<float>(padded);
    std::vector<std::pair<float*, float*>> sums(n_threads);  // m, the largest logit, and l of exp(logit - m)
#pragma omp parallel num_threads(n_threads)
    {
      Scratch scratch = memory.of_thread();
      float *m = scratch.take<float>(padded), *l = scratch.take<float>(padded);
      std::fill_n(m, padded, kNever);
      std::fill_n(l, padded, 0.0f);
      sums[omp_get_thread_num()] = {m, l};
      float* squares = scratch.take<float>(2 * kSquare);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < tiles.size(); i++) tiles.set(in, i, scratch);
      Block<T> block(cut, in, false, scratch);
      Multiplier multiply;
#pragma omp for schedule(static)
      for (int64_t number = 0; number < n_blocks; number++) {
        block.set(cut, in, number, scratch);
        for (int64_t row = 0; row < padded; row += kPanel) {
          const Tile<T>& tile = tiles[row / kTile];
          const int64_t panel = row % kTile;
          Floats top[kVectors], sum[kVectors];
          for (int j = 0; j < kVectors; j++) {
            top[j] = load<Floats>(m + row + j * kLanes);
            sum[j] = load<Floats>(l + row + j * kLanes);
          }
          auto at = [](const float* logits, int64_t line, int j) {
            return load<Floats>(logits + line * kPanel + j * kLanes);
          };
          block.each_square(
              multiply, tile.columns + panel * depth, squares,
              [&](int64_t, const float* logits) {
                Floats before[kVectors];
                std::copy_n(top, kVectors, before);
                for (int64_t line = 0; line < kPanel; line++)
                  for (int j = 0; j < kVectors; j++) top[j] = larger(top[j], at(logits, line, j));
                for (int j = 0; j < kVectors; j++) sum[j] *= exp2((before[j] - top[j]) * kLog2E);
              },
              [&](int64_t, const float* logits, int64_t first, int64_t last) {
                for (int64_t line = first; line < last; line++)
                  for (int j = 0; j < kVectors; j++) sum[j] += exp2((at(logits, line, j) - top[j]) * kLog2E);
              },
              [&](int64_t word, const float* logits) {
                const int64_t first = block.start + word;
                tile.each_target(panel, first, first + kPanel, [&](int64_t w, int64_t column) {
                  target_logits[row + column] = logits[w * kPanel + column];
                });
              });
          for (int j = 0; j < kVectors; j++) {
            store(m + row + j * kLanes, top[j]);
            store(l + row + j * kLanes, sum[j]);
          }
        }
      }
#pragma omp for schedule(static)
      for (int64_t i = 0; i < n_rows; i++) {
        float top = kNever, sum = 0;
        for (auto [m, l] : sums)
          if (m) top = std::max(top, m[i]);
        for (auto [m, l] : sums)
          if (m) sum += l[i] * std::exp(m[i] - top);
        const int64_t row = tiles[i / kTile].index[i % kTile];
        kept.log_sum[row] = top + std::log(sum);
        kept.log_probability[row] = (target_logits[i] - top) - std::log(sum);
      }
    }
  }
  double loss = 0;
  for (int64_t row : chosen) loss -= kept.log_probability[row];
  return loss;
}

// One row of words from the rows that it is made of.
void store_pair(float* to, Floats a, Floats) { store(to, a); }
void store_pair(BFloat16* to, Floats a, Floats b) { store(to, in_words(a, b)); }

// p = exp(logit) / 2^log_sum of the lines [first, last) of a square, as lines `run` apart and as words of two of them.
template <typename T>
void probabilities(const float* logits, const float* log_sums, int64_t first, int64_t last, T* lines, int64_t run,
                   T* pairs) {
  auto at = [&](int64_t line, int64_t column) {
    return exp2(load<Floats>(logits + line * kPanel + column) * kLog2E - load<Floats>(log_sums + column));
  };
  for (int64_t line = first; line < last; line += kPair<T>)
    for (int64_t column = 0; column < kPanel; column += 2 * kLanes) {
      Floats p[2][2];
      for (int64_t i = 0; i < kPair<T>; i++) {
        p[i][0] = at(line + i, column);
        p[i][1] = at(line + i, column + kLanes);
        store_line(lines + (line + i) * run + column, p[i][0], p[i][1]);
      }
      store_pair(pairs + line * kPanel + column * kPair<T>, p[0][0], p[1][0]);
      store_pair(pairs + line * kPanel + (column + kLanes) * kPair<T>, p[0][1], p[1][1]);
    }
}

struct Gradients {
  float *hidden, *head, *bias;  // null where not asked for
};

template <typename T>
void backward(const Inputs& in, const std::vector<int64_t>& chosen, const Kept& kept, float factor,
              const Gradients& grad, int n_threads) {
  const Cut cut(in, n_threads);
  const int64_t n_chosen = chosen.size(), n_blocks = divide_up(in.vocab, cut.words);
  const int64_t depth = in.depth(), width = in.width;
  if (grad.head && !n_chosen) std::fill_n(grad.head, in.vocab * width, 0.0f);
  if (grad.bias) std::fill_n(grad.bias, in.vocab, 0.0f);
  for (int64_t i = 0; grad.hidden && i < in.n_rows; i++)
    if (in.targets[i] == kIgnored) std::fill_n(grad.hidden + i * width, width, 0.0f);
  for (int64_t start = 0; start < n_chosen; start += cut.rows) {
    const int64_t n_rows = std::min(cut.rows, n_chosen - start), padded = round_up(n_rows, kPanel);
    const size_t shared_bytes = Tiles<T>::bytes(in, n_rows) + 4 * padded + 4096;
    const size_t bytes = Block<T>::bytes(cut, in) + sizeof(T) * (kTile * depth + cut.words * (kTile + kPanel)) +
                         4 * ((padded + cut.words) * depth + 2 * kSquare) + 4096;
    Memory memory(shared_bytes, bytes, n_threads);
    Tiles<T> tiles(in, chosen.data() + start, n_rows, true, memory.shared);
    float* log_sums = memory.shared.take<float>(padded);  // in base 2; p = 0 of columns that are no rows
    std::vector<float*> shares(n_threads);  // of dHidden^T: [depth, 32] for each panel; null of idle threads
#pragma omp parallel num_threads(n_threads)
    {
      Scratch scratch = memory.of_thread();
      float* share = grad.hidden ? scratch.take<float>(padded * depth) : nullptr;
      float* dhead = grad.head ? scratch.take<float>(cut.words * depth) : nullptr;  // of a block, in squares
      float* squares = scratch.take<float>(2 * kSquare);
      T *lines = scratch.take<T>(cut.words * kTile), *pairs = scratch.take<T>(cut.words * kPanel);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < tiles.size(); i++) {
        tiles.set(in, i, scratch);
        for (int64_t column = 0; column < tiles[i].n; column++) {
          int64_t row = column < tiles[i].count ? tiles[i].index[column] : -1;
          log_sums[i * kTile + column] = row < 0 ? -kNever : kept.log_sum[row] * kLog2E;
        }
      }
      Block<T> block(cut, in, grad.hidden, scratch);
      Multiplier multiply;
#pragma omp for schedule(static)
      for (int64_t number = 0; number < n_blocks; number++) {
        block.set(cut, in, number, scratch);
        float* dbias = grad.bias ? grad.bias + block.start : nullptr;
        for (int64_t i = 0; i < tiles.size(); i++) {
          const Tile<T>& tile = tiles[i];
          const int64_t run = Multiplier::run<T>(tile.n);
          for (int64_t panel = 0; panel < tile.n; panel += kPanel) {
            float* share_panel = share ? share + (i * kTile + panel) * depth : nullptr;
            T* panel_lines = lines + place<T>(0, panel, tile.n);
            auto nothing = [](int64_t, const float*) {};
            block.each_square(
                multiply, tile.columns + panel * depth, squares, nothing,
                [&](int64_t word, const float* logits, int64_t first, int64_t last) {
                  const int64_t from = (word + first) * depth / block.padded, to = (word + last) * depth / block.padded;
                  if (share) fetch<1, 2>(share_panel + from * kPanel, (to - from) * kPanel);
                  probabilities(logits, log_sums + i * kTile + panel, first, last, panel_lines + word * tile.n, run,
                                pairs + word * kPanel);
                },
                nothing);
            const int64_t end = block.start + block.words;
            tile.each_target(panel, block.start, end, [&](int64_t w, int64_t column) {
              T d = static_cast<T>(std::expm1(kept.log_probability[tile.index[panel + column]]));  // p - 1
              lines[place<T>(w, panel + column, tile.n)] = d;
              pairs[(w / kPair<T> * kPanel + column) * kPair<T> + w % kPair<T>] = d;
            });
            for (int64_t d = 0; share && d < depth; d += kPanel)
              multiply.packed(block.padded, block.columns + d * block.padded, pairs, share_panel + d * kPanel, kPanel,
                              shares[omp_get_thread_num()]);
          }
          for (int64_t w = 0; dbias && w < block.words; w++)
            for (int64_t panel = 0; panel < tile.n; panel += kPanel) {
              Floats sum{};
              for (int64_t i = 0; i < kPanel; i += kLanes) sum += load_row(lines + place<T>(w, panel, tile.n) + i);
              dbias[w] += total(sum) * factor;
            }
          for (int64_t d = 0; dhead && d < depth; d += kPanel)
            for (int64_t w = 0; w < block.padded; w += kPanel)
              multiply.packed(tile.n, lines + w * tile.n, tile.rows + d * tile.n, dhead + w * depth + d * kPanel,
                              kPanel, i > 0);
        }
        shares[omp_get_thread_num()] = share;
        for (int64_t w = 0; dhead && w < block.words; w++) {
          const float* from = dhead + w / kPanel * kPanel * depth + w % kPanel * kPanel;
          float* to = grad.head + (block.start + w) * width;
          for (int64_t d = 0; d < width; d += kPanel, from += kSquare)
            for (int64_t i = 0; i < std::min(kPanel, width - d); i++)
              to[d + i] = from[i] * factor + (start ? to[d + i] : 0.0f);
        }
      }
      float* rows = scratch.take<float>(kPanel * depth);
#pragma omp for schedule(static)
      for (int64_t panel = 0; panel < (grad.hidden ? padded : 0); panel += kPanel) {
        float* sum = nullptr;
        for (float* of_thread : shares) {
          if (!of_thread) continue;
          float* part = of_thread + panel * depth;
          for (int64_t j = 0; sum && j < kPanel * depth; j++) sum[j] += part[j];
          sum = sum ? sum : part;
        }
        transpose(reinterpret_cast<const Word*>(sum), kPanel, depth, kPanel, reinterpret_cast<Word*>(rows), depth);
        for (int64_t i = panel; i < std::min(n_rows, panel + kPanel); i++) {
          float* to = grad.hidden + tiles[i / kTile].index[i % kTile] * width;
          for (int64_t d = 0; d < width; d++) to[d] = rows[(i - panel) * depth + d] * factor;
        }
      }
    }
  }
}

// The rows that have targets; stops at a target that is no word, whose row is `wrong` (else -1).
std::vector<int64_t> rows_with_targets(const Inputs& in, int64_t& wrong) {
  std::vector<int64_t> rows;
  wrong = -1;
  for (int64_t i = 0; i < in.n_rows && wrong < 0; i++) {
    if (in.targets[i] == kIgnored) continue;
    if (in.targets[i] < 0 || in.targets[i] >= in.vocab) wrong = i;
    rows.push_back(i);
  }
  return rows;
}

}  // namespace

extern "C" {

// -1, or the row of a target that is no word.
int64_t wikigpt_cross_entropy_forward(int bf16, const Inputs* in, float* loss, const Kept* kept, int n_threads) {
  return guarded([&] {
    int64_t wrong;
    std::vector<int64_t> chosen = rows_with_targets(*in, wrong);
    if (wrong < 0) *loss = (bf16 ? forward<BFloat16> : forward<float>)(*in, chosen, *kept, n_threads);
    return wrong;
  });
}

int64_t wikigpt_cross_entropy_backward(int bf16, const Inputs* in, const Kept* kept, float factor,
                                       const Gradients* grad, int n_threads) {
  return guarded([&] {
    int64_t wrong;
    std::vector<int64_t> chosen = rows_with_targets(*in, wrong);
    if (wrong < 0) (bf16 ? backward<BFloat16> : backward<float>)(*in, chosen, *kept, factor, *grad, n_threads);
    return wrong;
  });
}
}
