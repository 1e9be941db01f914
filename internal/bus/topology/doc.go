// Package topology makes, compares, lists and removes streams and consumers, and says which rights a runner needs for them.
package topology
