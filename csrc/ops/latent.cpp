// The latent layer: noise from its counter, reparameterization, KL and its gradient, each in one pass.
#include "../diagonal.h"
#include "../op.h"
#include "../philox.h"

namespace lc {
namespace LC_ISA {
namespace {

constexpr int64_t kBlock = 16;  // rows of one task, and of one run of a sum in T

// The noise of one block of rows, given or drawn.
template <class T>
struct Noise {
  const T* given;
  const uint32_t* row;
  int64_t samples, latent;
  Key key;
  uint32_t step, stream;
  int64_t first;

  Noise(const T* noise, const uint32_t* rows, int64_t s, int64_t l, const Clock& clock, double stream_number)
      : given(noise),
        row(rows),
        samples(s),
        latent(l),
        key(clock.seed),
        step(static_cast<uint32_t>(clock.step)),
        stream(static_cast<uint32_t>(stream_number)),
        first(clock.sample * l) {}

  const T* of(int64_t begin, int64_t count, T* scratch) const {
    if (given)
      return given + begin * samples * latent;
    uint32_t id[kBlock] = {};
    for (int64_t r = 0; row && r < count; ++r) id[r] = row[begin + r];
    normals_rows<T>(key.word, id, static_cast<int>(count), static_cast<uint32_t>(first),
                    static_cast<int>(samples * latent), samples * latent, step, stream, scratch);
    return scratch;
  }
};

template <class T>
struct Space {
  T* noise;         // of each thread
  T* element;       // of each thread: a row of KL
  double* partial;  // [blocks][latent]
  int64_t noise_size, latent;
  Space(Carver& c, int64_t rows, int64_t l, int64_t samples, int threads)
      : noise(c.take<T>(threads * kBlock * samples * l)),
        element(c.take<T>(threads * l)),
        partial(c.take<double>(divide_up(rows, kBlock) * l)),
        noise_size(kBlock * samples * l),
        latent(l) {}
};

template <class T>
int64_t latent_space(const Call& call, int64_t capacity, int threads) {
  Carver c(nullptr);
  Space<T>(c, call.size[0].at(capacity), call.size[1].at(capacity), static_cast<int64_t>(call.option[0]), threads);
  return c.used();
}

bool worth_sharing(int64_t rows, int64_t samples, int64_t latent) {
  return rows * samples * latent > 1500;
}

// z[samples*r,l] kl_dim?[l] kl?[r] log_ratio?[samples*r] = h[r,2*l] noise?[samples*r,l] row?[r]; sizes r, l;
// options: samples, stream
template <class T>
int latent_forward(const Call& call, const Run& run) {
  T* z = run.get<T>(call, 0);
  double *kl_dim = run.get<double>(call, 1), *kl = run.get<double>(call, 2), *log_ratio = run.get<double>(call, 3);
  const T* h = run.get<T>(call, 4);
  const int64_t rows = run.size(call, 0), latent = run.size(call, 1), samples = static_cast<int64_t>(call.option[0]);
  const Noise<T> noise(run.get<T>(call, 5), run.get<uint32_t>(call, 6), samples, latent, run.clock, call.option[1]);
  Carver carver(run.workspace);
  const Space<T> space(carver, rows, latent, samples, run.team->threads());
  const int64_t blocks = divide_up(rows, kBlock);

  run.team->each_if(worth_sharing(rows, samples, latent), blocks, [&](int64_t block, int thread) {
    const int64_t begin = block * kBlock, count = rows - begin < kBlock ? rows - begin : kBlock;
    const T* e = noise.of(begin, count, space.noise + thread * space.noise_size);
    T* element = space.element + thread * latent;
    double* partial = space.partial + block * latent;
    for (int64_t j = 0; j < latent; ++j) partial[j] = 0;
    for (int64_t q = 0; q < count; ++q) {
      const int64_t r = begin + q;
      const T *mu = h + r * 2 * latent, *logvar = mu + latent;
      for_lanes<T>(latent, [&](int64_t j, auto get, auto put) LC_LAMBDA {
        const Vec<T> v = clamp_logvar<T>(get(logvar + j)), m = get(mu + j), d = deviation<T>(v);
        put(element + j, kl_of<T>(m, v));
        for (int64_t s = 0; s < samples; ++s)
          put(z + (r * samples + s) * latent + j, madd(d, get(e + (q * samples + s) * latent + j), m));
      });
      double sum = 0;
      for (int64_t j = 0; j < latent; ++j) {
        partial[j] += static_cast<double>(element[j]);
        sum += static_cast<double>(element[j]);
      }
      if (kl)
        kl[r] = sum;
      if (!log_ratio)
        continue;
      // log p(z) - log q(z | x), in which the constants cancel
      for (int64_t s = 0; s < samples; ++s) {
        const T *zs = z + (r * samples + s) * latent, *es = e + (q * samples + s) * latent;
        double ratio = 0;
        for (int64_t j = 0; j < latent; ++j) {
          const double zj = static_cast<double>(zs[j]), ej = static_cast<double>(es[j]);
          double v = static_cast<double>(logvar[j]);
          v = v < -30 ? -30 : v > 20 ? 20 : v;
          ratio += 0.5 * (ej * ej - zj * zj + v);
        }
        log_ratio[r * samples + s] = ratio;
      }
    }
  });
  if (kl_dim)
    for (int64_t j = 0; j < latent; ++j) {
      double sum = 0;
      for (int64_t b = 0; b < blocks; ++b) sum += space.partial[b * latent + j];
      kl_dim[j] = sum / static_cast<double>(rows);
    }
  return 0;
}

// dh[r,2*l] = dz[samples*r,l] h[r,2*l] beta[steps] kl_dim?[l] weight?[samples*r] noise?[samples*r,l] row?[r]; sizes r,
// l; options: samples, stream, free_bits. Without weights the KL is the analytic one, its mean over the rows; with
// weights it is -log_ratio of each sample, times its weight.
template <class T>
int latent_backward(const Call& call, const Run& run) {
  T* dh = run.get<T>(call, 0);
  const T *dz = run.get<T>(call, 1), *h = run.get<T>(call, 2);
  const double beta = run.get<double>(call, 3)[run.clock.iteration];
  const double *kl_dim = run.get<double>(call, 4), *weight = run.get<double>(call, 5);
  const int64_t rows = run.size(call, 0), latent = run.size(call, 1), samples = static_cast<int64_t>(call.option[0]);
  const Noise<T> noise(run.get<T>(call, 6), run.get<uint32_t>(call, 7), samples, latent, run.clock, call.option[1]);
  Carver carver(run.workspace);
  const Space<T> space(carver, rows, latent, samples, run.team->threads());
  const double free_bits = call.option[2];

  run.team->each_if(worth_sharing(rows, samples, latent), divide_up(rows, kBlock), [&](int64_t block, int thread) {
    const int64_t begin = block * kBlock, count = rows - begin < kBlock ? rows - begin : kBlock;
    const T* e = noise.of(begin, count, space.noise + thread * space.noise_size);
    T* scale = space.element + thread * latent;  // of the analytic KL in each dimension
    for (int64_t j = 0; j < latent; ++j)
      scale[j] = weight || (kl_dim && kl_dim[j] < free_bits) ? T(0) : T(beta / static_cast<double>(rows));
    for (int64_t q = 0; q < count; ++q) {
      const int64_t r = begin + q;
      const T *mu = h + r * 2 * latent, *logvar = mu + latent;
      T *dmu = dh + r * 2 * latent, *dlogvar = dmu + latent;
      for_lanes<T>(latent, [&](int64_t j, auto get, auto put) LC_LAMBDA {
        const Vec<T> raw = get(logvar + j), v = clamp_logvar<T>(raw), m = get(mu + j), half = splat(T(0.5));
        const Vec<T> d = deviation<T>(v), by = get(scale + j);
        Vec<T> to_mu = by * m, to_logvar = by * half * vexpm1<T>(v);
        for (int64_t s = 0; s < samples; ++s) {
          const Vec<T> es = get(e + (q * samples + s) * latent + j);
          Vec<T> g = get(dz + (r * samples + s) * latent + j);
          if (weight) {
            const Vec<T> w = splat(T(beta * weight[r * samples + s]));
            g = madd(w, madd(d, es, m), g);
            to_logvar -= half * w;
          }
          to_mu += g;
          to_logvar = madd(g * half, d * es, to_logvar);
        }
        put(dmu + j, to_mu);
        put(dlogvar + j, to_logvar * inside_clamp<T>(raw));
      });
    }
  });
  return 0;
}

// mu?[r,l] logvar?[r,l] = h[r,2*l]; sizes r, l
template <class T>
int posterior_forward(const Call& call, const Run& run) {
  T *mu = run.get<T>(call, 0), *logvar = run.get<T>(call, 1);
  const T* h = run.get<T>(call, 2);
  const int64_t rows = run.size(call, 0), latent = run.size(call, 1);
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = h + r * 2 * latent;
    if (mu)
      std::memcpy(mu + r * latent, from, sizeof(T) * static_cast<size_t>(latent));
    if (logvar)
      for_lanes<T>(latent, [&](int64_t j, auto get, auto put)
                               LC_LAMBDA { put(logvar + r * latent + j, clamp_logvar<T>(get(from + latent + j))); });
  }
  return 0;
}

}  // namespace

extern const Op kLatent[] = {
    {"latent_forward", latent_forward<float>, latent_forward<double>, latent_space<float>, latent_space<double>},
    {"latent_backward", latent_backward<float>, latent_backward<double>, latent_space<float>, latent_space<double>},
    {"posterior_forward", posterior_forward<float>, posterior_forward<double>, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
