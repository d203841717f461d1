// Hamiltonian trajectories of many chains, compiled together with the density that they run in.
//
// What is computed here is what pplkit/infer/hmc.py, nuts.py and adaptation.py say in Python, where
// the algorithms are explained; names are the same. A chain's state lies in tensors of Python's, so
// that either may go on where the other has stopped. In place of comments of one word, trajectory.py
// puts one evaluation of the captured density.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <omp.h>
#include <vector>

/* before */

// The potential at q, and its gradient; false where the program comes upon an error.
static bool evaluate(const int64_t* sizes, void* const* inputs, char* room, const double* q,
                     double& potential, double* gradient) {
    /* sizes */
    /* inputs */
    /* buffers */
    /* variables */
    bool well = true;
    /* given */
    /* calls */
    potential = /* potential */;
    /* gradient */
    return well;
}

// Whether the plan is for these sizes.
static int64_t agrees(const int64_t* sizes) {
    /* sizes */
    /* guards */
    return 0;
}

extern "C" int64_t pplkit_room(const int64_t* sizes) {
    char* room = nullptr;
    /* sizes */
    /* pointers */
    /* buffers */
    /* variables */
    return (int64_t) room;
}

namespace {

constexpr double INF = std::numeric_limits<double>::infinity();
constexpr double DIVERGED = 1000.0, SMALLEST = 1e-10, LARGEST = 1e10;
const double LOG_TARGET = std::log(0.8);
constexpr int64_t DIRECTION = int64_t(1) << 33, MERGE = int64_t(1) << 32;
enum Phase { PLAIN, COLLECT, CLOSE };

// What Python tells, in this order.
struct Settings {
    int64_t chains, size, dense, depth, num_steps, finds_step, warmup, draws, until, first, threads;
    double trajectory_length, target, seconds;
    // Of each chain; moved on in place.
    int64_t* age;
    double *q, *potential, *gradient, *step, *covariance, *root, *mean, *products;
    double *log_step, *log_mean, *error, *count, *centre;
    // Of each transition: from `first` on noise and seeds, from 0 on phases and numbers of rows.
    const double* noise;
    const int64_t *seeds, *phases, *counts;
    // Of each chain's draws.
    double *rows, *accept_prob, *energy, *potential_energy;
    uint8_t* diverging;
    int64_t* num_steps_taken;
    // Of each chain: the last transition's.
    double* accepted;
    // Of each pair of variables: whether their covariance is learnt; null: all, or none.
    const double* within;
};

uint64_t hashed(uint64_t seed, uint64_t counter) {
    uint64_t bits = seed + (counter + 1) * 0x9E3779B97F4A7C15u;
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9u;
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBu;
    return bits ^ (bits >> 31);
}

double uniform(uint64_t seed, uint64_t counter) {
    return (double) (hashed(seed, counter) >> 11) * 0x1p-53;
}

double log_add_exp(double a, double b) {
    const double most = std::max(a, b), least = std::min(a, b);
    return most == -INF ? -INF : most + std::log1p(std::exp(least - most));
}

double known(double gain) { return std::isnan(gain) ? -INF : gain; }

double clamped(double step) {
    return std::isnan(step) ? SMALLEST : std::min(std::max(step, SMALLEST), LARGEST);
}

double dot(const double* a, const double* b, int64_t n) {
    double sums[4] = {0, 0, 0, 0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) sums[k] += a[i + k] * b[i + k];
    for (; i < n; i++) sums[0] += a[i] * b[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

struct Point {
    double *q, *p, *gradient, potential;
};

struct Outcome {
    double accept_prob, energy;
    int64_t num_steps;
    bool diverging;
};

struct Chain {
    const Settings& s;
    const int64_t* sizes;
    void* const* inputs;
    char* room;
    const int64_t at, n;  // which chain, and how many variables
    double &step, *covariance, *root;
    std::vector<double> memory;
    size_t used = 0;
    Point now, left, right, proposal, candidate;
    double *momenta, *branch, *way, *spare;
    std::vector<double*> firsts, befores;

    Chain(const Settings& s, const int64_t* sizes, void* const* inputs, char* room, int64_t at)
        : s(s), sizes(sizes), inputs(inputs), room(room), at(at), n(s.size), step(s.step[at]),
          covariance(s.covariance + at * square()), root(s.root + at * square()),
          memory((5 * 3 + 4 + 2 * (s.depth + 1)) * s.size) {
        for (Point* point : {&now, &left, &right, &proposal, &candidate})
            *point = {row(), row(), row(), 0.0};
        momenta = row(), branch = row(), way = row(), spare = row();
        for (int64_t level = 0; level <= s.depth; level++) {
            firsts.push_back(row());
            befores.push_back(row());
        }
    }

    int64_t square() const { return s.dense ? s.size * s.size : s.size; }
    double* row() { return memory.data() + n * used++; }
    void copy(double* to, const double* from) const { std::memcpy(to, from, n * sizeof(double)); }
    void copy(Point& to, const Point& from) const {
        copy(to.q, from.q), copy(to.p, from.p), copy(to.gradient, from.gradient);
        to.potential = from.potential;
    }

    // -- the metric ----------------------------------------------------------------------------
    void momentum(double* p, const double* noise) const {
        if (!s.dense) {
            for (int64_t i = 0; i < n; i++) p[i] = noise[i] / root[i];
            return;
        }
        for (int64_t i = n - 1; i >= 0; i--) {  // the root's transpose times p is the noise
            double rest = noise[i];
            for (int64_t j = i + 1; j < n; j++) rest -= root[j * n + i] * p[j];
            p[i] = rest / root[i * n + i];
        }
    }

    void velocity(double* v, const double* p) const {
        if (!s.dense) {
            for (int64_t i = 0; i < n; i++) v[i] = covariance[i] * p[i];
            return;
        }
        std::fill(v, v + n, 0.0);
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < n; i++) v[i] += covariance[j * n + i] * p[j];
    }

    double energy(const Point& point) {
        velocity(way, point.p);
        return point.potential + 0.5 * dot(point.p, way, n);
    }

    // -- paths ---------------------------------------------------------------------------------
    void leapfrog(Point& point, double step) {
        const double half = 0.5 * step;
        for (int64_t i = 0; i < n; i++) point.p[i] -= half * point.gradient[i];
        velocity(way, point.p);
        for (int64_t i = 0; i < n; i++) point.q[i] += step * way[i];
        if (!evaluate(sizes, inputs, room, point.q, point.potential, point.gradient))
            point.potential = NAN;
        for (int64_t i = 0; i < n; i++) point.p[i] -= half * point.gradient[i];
    }

    // `before`: the sum of the momenta that do not belong to the path; may be null.
    bool turning(const double* first, const double* last, const double* total,
                 const double* before) {
        for (int64_t i = 0; i < n; i++) {
            const double sum = before ? total[i] - before[i] : total[i];
            spare[i] = sum - 0.5 * (first[i] + last[i]);
        }
        velocity(way, spare);
        return dot(first, way, n) <= 0 || dot(last, way, n) <= 0;
    }

    // Whether a half of the path that ends with this leaf, the branch's last, turns back.
    bool closes_turning(int64_t leaf, const double* p) {
        const int64_t level = __builtin_popcountll(leaf >> 1);
        const int64_t ones = leaf % 2 ? __builtin_ctzll(~leaf) : 0;
        for (int64_t i = level; i > level - ones; i--)
            if (turning(firsts[i], p, branch, befores[i])) return true;
        return false;
    }

    Outcome no_u_turn(uint64_t seed) {
        const double start = energy(now);
        double here = start, log_weight = 0, accepted = 0;
        int64_t leaves = 0;
        bool diverging = false;
        copy(left, now), copy(right, now), copy(proposal, now), copy(momenta, now.p);
        for (int64_t depth = 0; depth < s.depth; depth++) {
            const bool forward = (int64_t) hashed(seed, DIRECTION + depth) >= 0;
            Point& end = forward ? right : left;
            const double signed_step = forward ? step : -step;
            const int64_t leaves_of_branch = int64_t(1) << depth;
            double weight = -INF, there = start;
            bool whole = true;
            std::fill(branch, branch + n, 0.0);
            for (int64_t leaf = 0; leaf < leaves_of_branch && whole; leaf++) {
                leapfrog(end, signed_step);
                const double found = energy(end), gain = known(start - found);
                accepted += std::min(std::exp(gain), 1.0);
                leaves++;
                if (!(gain >= -DIVERGED)) {
                    diverging = true, whole = false;
                    break;
                }
                weight = log_add_exp(weight, gain);
                if (std::log(uniform(seed, leaves_of_branch + leaf)) < gain - weight) {
                    copy(candidate, end);
                    there = found;
                }
                if (leaf % 2 == 0) {
                    const int64_t level = __builtin_popcountll(leaf >> 1);
                    copy(firsts[level], end.p), copy(befores[level], branch);
                }
                for (int64_t i = 0; i < n; i++) branch[i] += end.p[i];
                whole = !closes_turning(leaf, end.p);
            }
            if (!whole) break;
            if (std::log(uniform(seed, MERGE + depth)) < weight - log_weight) {
                copy(proposal, candidate);
                here = there;
            }
            log_weight = log_add_exp(log_weight, weight);
            for (int64_t i = 0; i < n; i++) momenta[i] += branch[i];
            if (turning(left.p, right.p, momenta, nullptr)) break;
        }
        copy(now, proposal);
        return {accepted / leaves, here, leaves, diverging};
    }

    Outcome fixed_length(uint64_t seed) {
        int64_t count = s.num_steps;
        if (!count) count = (int64_t) std::min(std::max(s.trajectory_length / step, 1.0), 1024.0);
        const double start = energy(now);
        copy(proposal, now);
        for (int64_t i = 0; i < count; i++) leapfrog(proposal, step);
        const double end = energy(proposal), gain = known(start - end);
        const double accept_prob = std::min(std::exp(gain), 1.0);
        const bool accepted = uniform(seed, 0) < accept_prob;
        if (accepted) copy(now, proposal);
        return {accept_prob, accepted ? end : start, count, !(gain >= -DIVERGED)};
    }

    // -- adaptation ----------------------------------------------------------------------------
    void reasonable_step(const double* noise) {
        copy(left, now);
        momentum(left.p, noise);
        const double start = energy(left);
        bool rising = true;
        for (int64_t i = 0; i < 100; i++) {
            copy(right, left);
            leapfrog(right, step);
            const bool accepted = start - energy(right) > LOG_TARGET;
            if (i == 0) rising = accepted;
            if (accepted != rising) break;
            step = clamped(rising ? step * 2 : step / 2);
        }
    }

    void average_from_step() {
        s.log_step[at] = std::log(step);
        s.log_mean[at] = s.error[at] = s.count[at] = 0;
        s.centre[at] = std::log(10 * step);
    }

    void average(double accept_prob) {
        const double count = ++s.count[at], weight = 1 / (count + 10);
        s.error[at] = (1 - weight) * s.error[at] + weight * (s.target - accept_prob);
        s.log_step[at] = s.centre[at] - std::sqrt(count) / 0.05 * s.error[at];
        const double kept = std::pow(count, -0.75);
        s.log_mean[at] = kept * s.log_step[at] + (1 - kept) * s.log_mean[at];
    }

    void collect(int64_t rows) {
        double *mean = s.mean + at * n, *products = s.products + at * square();
        for (int64_t i = 0; i < n; i++) {
            way[i] = now.q[i] - mean[i];
            mean[i] += way[i] / rows;
            spare[i] = now.q[i] - mean[i];
        }
        if (!s.dense) {
            for (int64_t i = 0; i < n; i++) products[i] += way[i] * spare[i];
            return;
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) products[i * n + j] += spare[i] * way[j];
    }

    void close(int64_t rows) {
        double *mean = s.mean + at * n, *products = s.products + at * square();
        const double shrink = rows / (rows + 5.0), small = 1e-3 * (5 / (rows + 5.0));
        for (int64_t i = 0; i < square(); i++)
            covariance[i] = products[i] / (rows - 1) * shrink + (s.dense ? 0.0 : small);
        for (int64_t i = 0; s.within && i < square(); i++) covariance[i] *= s.within[i];
        for (int64_t i = 0; s.dense && i < n; i++) covariance[i * n + i] += small;
        std::fill(mean, mean + n, 0.0);
        std::fill(products, products + square(), 0.0);
        if (s.dense)
            factor();
        else
            for (int64_t i = 0; i < n; i++) root[i] = std::sqrt(covariance[i]);
    }

    void factor() {
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j <= i; j++) {
                const double rest = covariance[i * n + j] - dot(root + i * n, root + j * n, j);
                root[i * n + j] = i == j ? std::sqrt(rest) : rest / root[j * n + j];
            }
            std::fill(root + i * n + i + 1, root + (i + 1) * n, 0.0);
        }
    }

    void adapt(int64_t age, double accept_prob, const double* noise) {
        if (s.finds_step) {
            average(accept_prob);
            step = clamped(std::exp(s.log_step[at]));
        }
        if (s.phases[age] != PLAIN) collect(s.counts[age]);
        if (s.phases[age] == CLOSE) {
            close(s.counts[age]);
            if (s.finds_step) {
                reasonable_step(noise);
                average_from_step();
            }
        }
        if (s.finds_step && age == s.warmup - 1) step = clamped(std::exp(s.log_mean[at]));
    }

    // -- the chain's life ----------------------------------------------------------------------
    void run() {
        const auto begun = std::chrono::steady_clock::now();
        const std::chrono::duration<double> enough(s.seconds);
        copy(now.q, s.q + at * n), copy(now.gradient, s.gradient + at * n);
        now.potential = s.potential[at];
        for (int64_t& age = s.age[at]; age < s.until;) {
            const int64_t row = (age - s.first) * s.chains + at;
            const double* noise = s.noise + row * n;
            momentum(now.p, noise);
            const uint64_t seed = s.seeds[row];
            const Outcome outcome = s.depth ? no_u_turn(seed) : fixed_length(seed);
            s.accepted[at] = outcome.accept_prob;
            if (age < s.warmup)
                adapt(age, outcome.accept_prob, noise);
            else
                keep(at * s.draws + age - s.warmup, outcome);
            age++;
            if (std::chrono::steady_clock::now() - begun > enough) break;
        }
        copy(s.q + at * n, now.q), copy(s.gradient + at * n, now.gradient);
        s.potential[at] = now.potential;
    }

    void keep(int64_t place, const Outcome& outcome) const {
        copy(s.rows + place * n, now.q);
        s.accept_prob[place] = outcome.accept_prob;
        s.energy[place] = outcome.energy;
        s.potential_energy[place] = now.potential;
        s.diverging[place] = outcome.diverging;
        s.num_steps_taken[place] = outcome.num_steps;
    }
};

}  // namespace

// Move all chains on until an age, or for some time. `inputs`: of each chain, the addresses of what
// the density takes; `room`: of each thread.
extern "C" int64_t pplkit_run(const Settings* settings, const int64_t* sizes,
                                 void* const* inputs, int64_t per_chain, char* const* rooms) {
    if (agrees(sizes)) return -2;
    const Settings& s = *settings;
    int64_t failed = 0;
#pragma omp parallel for schedule(dynamic) num_threads(s.threads) reduction(+ : failed)
    for (int64_t at = 0; at < s.chains; at++) {
        try {
            Chain(s, sizes, inputs + at * per_chain, rooms[omp_get_thread_num()], at).run();
        } catch (...) {
            failed++;
        }
    }
    return failed ? -1 : 0;
}
