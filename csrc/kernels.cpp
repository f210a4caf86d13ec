// The ops of one instruction set.
#include "kernels.h"

namespace lc {
namespace LC_ISA {

extern const Op kLinear[], kLatent[], kReparameterize[], kKl[], kBernoulli[], kGaussian[], kImportance[], kObjective[],
    kAdam[], kNorm[], kGather[], kShuffle[], kRandom[], kInterpolate[], kShift[], kProbabilisticPca[], kAffine[],
    kMoments[], kCovariance[], kSvd[], kEigh[];

extern const Op* const kOps[] = {
    kLinear, kLatent,  kReparameterize, kKl,      kBernoulli, kGaussian,    kImportance, kObjective,
    kAdam,   kNorm,    kGather,         kShuffle, kRandom,    kInterpolate, kShift,      kProbabilisticPca,
    kAffine, kMoments, kCovariance,     kSvd,     kEigh,      nullptr};

}  // namespace LC_ISA
}  // namespace lc
