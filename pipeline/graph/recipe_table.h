#pragma once

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "pipeline/weights/recipe.h"

namespace onnxferry {

/// An initializer: name, dtype and dims are all that a graph needs of it, the recipe has the rest.
struct NamedRecipe {
  std::string name;
  Recipe recipe;
};

/// The initializers of one graph in the order in which they were made, found by name.
class RecipeTable {
 public:
  RecipeTable() = default;
  RecipeTable(RecipeTable&&) = default;  // NOLINT(performance-noexcept-move-constructor): a deque's
  RecipeTable& operator=(RecipeTable&&) = default;
  RecipeTable(const RecipeTable&) = delete;  // the index points into the entries
  RecipeTable& operator=(const RecipeTable&) = delete;
  ~RecipeTable() = default;

  /// For so many initializers at least.
  void reserve(std::size_t count) { by_name_.reserve(count); }
  /// \return the entry of that name, and whether it is new; an old one keeps its recipe
  std::pair<const NamedRecipe&, bool> add(std::string name, Recipe recipe);
  /// nullptr if there is none
  [[nodiscard]] const Recipe* find(std::string_view name) const;
  /// \throws Error{kInternal} if there is none
  [[nodiscard]] const Recipe& at(std::string_view name) const;
  [[nodiscard]] bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// Drop the others, keep the order.
  void keep_if(const std::function<bool(const NamedRecipe&)>& is_kept);

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] auto begin() const { return entries_.begin(); }
  [[nodiscard]] auto end() const { return entries_.end(); }
  /// Recipes may be replaced, names may not change.
  [[nodiscard]] auto begin() { return entries_.begin(); }
  [[nodiscard]] auto end() { return entries_.end(); }

 private:
  void index();

  std::deque<NamedRecipe> entries_;  // stays where it is when it grows
  std::unordered_map<std::string_view, const NamedRecipe*> by_name_;
};

}  // namespace onnxferry
