// The ops that inference plans are made of: the buffers and options that each takes, in the words of
// latentcore/ops/signature.py.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "json.h"
#include "op.h"

namespace lc {

// A buffer as a call sees it.
struct Described {
  std::string_view name, dtype;
  bool is_weight;
  const std::vector<Size>* shape;
};

class Signature {
 public:
  // text: "y[r,o] before?[r,o] = x[r,i] w{o,i}". options: the defaults as JSON; a list are names, of which the first is
  // the default, and whose numbers the kernels take.
  Signature(const char* op, const char* text, const char* options);

  const char *op, *text, *options;
  size_t arguments() const { return arguments_.size(); }
  size_t outputs() const { return outputs_; }  // the first so many arguments
  // The dtype that an argument has in every plan; "": that of the plan.
  const std::string& dtype(size_t argument) const { return arguments_[argument].dtype; }

  // The options of a call as its kernel takes them. Throws std::invalid_argument for what is none of them.
  std::vector<double> option_numbers(Json::Value given) const;
  // The sizes of a call in the order of its letters; buffers: null where absent. Throws std::invalid_argument where one
  // is missing or does not fit the others.
  std::vector<Size> unify(const std::vector<const Described*>& buffers, const std::vector<double>& option_numbers,
                          std::string_view real) const;

 private:
  struct Dim {
    int64_t times;  // of the size; the value itself, if it has no letter
    int option;     // whose number multiplies the size, or -1
    int letter;     // an index into letters_, or -1
  };
  struct Argument {
    std::string name, dtype;  // dtype "": that of the plan
    bool optional, is_weight;
    std::vector<Dim> dims;
  };
  struct Option {
    std::string name;
    Json::Kind kind;  // kFalse: either truth value, kString: one of the names
    double fallback;
    std::vector<std::string> names;
  };
  Dim dim_of(std::string_view text);

  std::vector<Argument> arguments_;
  size_t outputs_ = 0;
  std::string letters_;
  std::vector<Option> options_;
};

const std::vector<Signature>& signatures();
const Signature* find_signature(std::string_view op);  // null: no op of inference plans

}  // namespace lc
