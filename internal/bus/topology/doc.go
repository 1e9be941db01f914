// Package topology makes, compares, lists and removes streams and consumers, and knows which permissions a runner needs for them.
package topology
