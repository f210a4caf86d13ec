#include "signature.h"

#include <algorithm>
#include <stdexcept>

namespace lc {
namespace {

constexpr int64_t kMaxInteger = (int64_t{1} << 32) - 1;  // of an option

[[noreturn]] void fail(const std::string& what) {
  throw std::invalid_argument(what);
}

// Cuts off what stands before the first of `marks`, and the mark too.
std::string_view cut(std::string_view* text, std::string_view marks) {
  const size_t at = std::min(text->find_first_of(marks), text->size());
  const std::string_view head = text->substr(0, at);
  text->remove_prefix(std::min(at + 1, text->size()));
  return head;
}

std::string shape_of(const Described& buffer) {
  std::string text = buffer.is_weight ? "a weight " : "an array ";
  text.append(buffer.dtype).append(" (");
  for (size_t i = 0; i < buffer.shape->size(); ++i) {
    const Size& size = (*buffer.shape)[i];
    text += i ? ", " : "";
    text += !size.times_rows  ? std::to_string(size.value)
            : size.value == 1 ? "rows"
                              : std::to_string(size.value) + "*rows";
  }
  return text + ")";
}

}  // namespace

Signature::Signature(const char* op_name, const char* signature, const char* defaults)
    : op(op_name), text(signature), options(defaults) {
  const Json json(defaults);
  for (const Json::Value value : json.root()) {
    Option option{std::string(value.key()), Json::Kind::kFalse, 0, {}};
    if (value.is(Json::Kind::kArray)) {
      option.kind = Json::Kind::kString;
      for (const Json::Value name : value) option.names.emplace_back(name.text());
    } else if (const std::optional<double> number = value.number()) {
      option.kind = value.integer() ? Json::Kind::kInteger : Json::Kind::kReal;
      option.fallback = *number;
    } else {
      option.fallback = value.is(Json::Kind::kTrue);
    }
    options_.push_back(std::move(option));
  }
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view word = cut(&rest, " ");
    if (word == "=") {
      outputs_ = arguments_.size();
      continue;
    }
    Argument argument{};
    argument.is_weight = word.find('{') != std::string_view::npos;
    std::string_view name = cut(&word, "[{");
    argument.optional = name.back() == '?';
    argument.name = name.substr(0, name.size() - argument.optional);
    std::string_view dims = cut(&word, "]}");
    while (!dims.empty()) argument.dims.push_back(dim_of(cut(&dims, ",")));
    argument.dtype = word.empty() ? "" : word.substr(1);
    arguments_.push_back(std::move(argument));
  }
}

Signature::Dim Signature::dim_of(std::string_view dim) {
  Dim made{1, -1, -1};
  const size_t star = dim.find('*');
  if (star != std::string_view::npos) {
    const std::string_view head = cut(&dim, "*");
    for (size_t i = 0; i < options_.size(); ++i)
      if (options_[i].name == head)
        made.option = static_cast<int>(i);
    if (made.option < 0)
      made.times = std::stoll(std::string(head));
  }
  if (dim[0] >= '0' && dim[0] <= '9') {
    made.times = std::stoll(std::string(dim));
    return made;
  }
  if (letters_.find(dim[0]) == std::string::npos)
    letters_ += dim[0];
  made.letter = static_cast<int>(letters_.find(dim[0]));
  return made;
}

std::vector<double> Signature::option_numbers(Json::Value given) const {
  if (!given.is(Json::Kind::kObject))
    fail("options: expected an object, got " + given.shown());
  for (const Json::Value value : given)
    if (std::none_of(options_.begin(), options_.end(), [&](const Option& o) { return o.name == value.key(); }))
      fail("the option " + quoted(value.key()) + " is unknown");
  std::vector<double> numbers;
  for (const Option& option : options_) {
    const Json::Value value = given.find(option.name);
    std::optional<double> number;
    std::string expected;
    if (!value) {
      number = option.fallback;
    } else if (option.kind == Json::Kind::kString) {
      const auto found = std::find(option.names.begin(), option.names.end(), value.text());
      if (found != option.names.end())
        number = static_cast<double>(found - option.names.begin());
      for (const std::string& name : option.names) expected += (expected.empty() ? "one of " : ", ") + name;
    } else if (option.kind == Json::Kind::kInteger) {
      const std::optional<int64_t> integer = value.integer();
      if (integer && *integer >= 0 && *integer <= kMaxInteger)
        number = static_cast<double>(*integer);
      expected = "an integer from 0 to " + std::to_string(kMaxInteger);
    } else if (option.kind == Json::Kind::kReal) {
      number = value.number();
      expected = "a number";
    } else {
      if (value.is(Json::Kind::kTrue) || value.is(Json::Kind::kFalse))
        number = value.is(Json::Kind::kTrue);
      expected = "true or false";
    }
    if (!number)
      fail(option.name + ": expected " + expected + ", got " + value.shown());
    numbers.push_back(*number);
  }
  return numbers;
}

std::vector<Size> Signature::unify(const std::vector<const Described*>& buffers,
                                   const std::vector<double>& option_numbers, std::string_view real) const {
  std::vector<Size> sizes(letters_.size());
  std::vector<bool> known(letters_.size());
  const auto fit = [&](const Dim& dim, Size actual) {
    if (dim.letter < 0)
      return actual.value == dim.times && !actual.times_rows;
    const int64_t times =
        dim.option < 0 ? dim.times : static_cast<int64_t>(option_numbers[static_cast<size_t>(dim.option)]);
    if (times < 1 || actual.value % times)
      return false;
    actual.value /= times;
    const auto letter = static_cast<size_t>(dim.letter);
    if (known[letter])
      return sizes[letter].value == actual.value && sizes[letter].times_rows == actual.times_rows;
    known[letter] = true;
    sizes[letter] = actual;
    return true;
  };
  for (size_t i = 0; i < arguments_.size(); ++i) {
    const Argument& argument = arguments_[i];
    const Described* buffer = buffers[i];
    if (!buffer) {
      if (!argument.optional)
        fail("the argument " + argument.name + " is missing; it is " + text);
      continue;
    }
    bool fits = buffer->is_weight == argument.is_weight && buffer->shape->size() == argument.dims.size() &&
                buffer->dtype == (argument.dtype.empty() ? real : std::string_view(argument.dtype));
    for (size_t d = 0; fits && d < argument.dims.size(); ++d) fits = fit(argument.dims[d], (*buffer->shape)[d]);
    if (!fits)
      fail(argument.name + ": " + quoted(buffer->name) + ", " + shape_of(*buffer) + ", does not fit " + text);
  }
  return sizes;
}

const std::vector<Signature>& signatures() {
  static const std::vector<Signature> all = {
      {"linear_forward", "y[r,o] before?[r,o] = x[r,i] w{o,i}",
       R"({"activation": ["identity", "relu", "leaky_relu", "tanh", "sigmoid", "softplus", "gelu", "silu"]})"},
      {"posterior_forward", "mu?[r,l] logvar?[r,l] = h[r,2*l]", "{}"},
      {"latent_forward",
       "z[samples*r,l] kl_dim?[l]:float64 kl?[r]:float64 log_ratio?[samples*r]:float64 = "
       "h[r,2*l] noise?[samples*r,l] row?[r]:uint32",
       R"({"samples": 1, "stream": 0})"},
      {"bernoulli_forward", "loss?[samples*r]:float64 dlogits?[samples*r,f] = logits[samples*r,f] x[r,f]",
       R"({"samples": 1, "mean_over_rows": true})"},
      {"gaussian_forward",
       "loss?[samples*r]:float64 dmean?[samples*r,f] dlog_variance?[samples*r]:float64 = "
       "mean[samples*r,f] x[r,f] log_variance?{1,0}",
       R"({"samples": 1, "mean_over_rows": true, "variance": 1.0})"},
      {"score_forward", "score[r]:float64 = recon[samples*r]:float64 kl?[r]:float64", R"({"samples": 1})"},
      {"shift_forward", "y[r,f] = x[r,f] by[f]:float64", R"({"subtract": false})"},
      {"probabilistic_pca_forward", "loglik[r]:float64 = xc?[r,f] xr?[r,f] z[r,k] variance[k]:float64 noise[1]:float64",
       "{}"},
  };
  return all;
}

const Signature* find_signature(std::string_view op) {
  for (const Signature& each : signatures())
    if (each.op == op)
      return &each;
  return nullptr;
}

}  // namespace lc
