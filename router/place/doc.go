// Package place decides on which nodes a content goes. It is pure: nodes with
// their space, zones and health in, a choice out, the same for the same input.
//
// Choose is greedy. It takes one node after the other, each time the best by, in
// this order: a zone that is still needed; health; whether the content fits by what
// is known; whether the content has space there already; a zone that has no copy
// yet; adoption, which saves writing the bytes twice; free space, in powers of two;
// the order in which the person listed the nodes.
//
// A caller that finds a chosen node refusing marks it Refused and asks again:
// every answer costs microseconds.
package place
