package vault

import (
	"context"
	"strings"
	"sync"
	"time"

	"stasis/router"
)

// riskCache keeps the answer to a question that goes through the whole ledger.
type riskCache struct {
	mu    sync.Mutex
	away  string // the nodes it was asked about
	files int64
	asked time.Time
}

// onlyThere counts the files whose only copies lie on nodes that are away: on one of
// them, or, where every durable node is away, all of the vault's. A file with copies on
// several that are away, beside others that are not, is not counted.
func (v *Vault) onlyThere(ctx context.Context, nodes []router.NodeStatus, all int64) int64 {
	var away []string
	here := 0
	for _, n := range nodes {
		switch {
		case !n.Durable:
		case n.State == router.Missing || n.State == router.Unreachable:
			away = append(away, n.Name)
		default:
			here++
		}
	}
	if len(away) > 1 && here == 0 {
		return all
	}
	v.risk.mu.Lock()
	defer v.risk.mu.Unlock()
	if key := strings.Join(away, ","); key != v.risk.away || time.Since(v.risk.asked) > riskAge {
		files := int64(0)
		for _, name := range away {
			means, err := v.router.RemoveNode(ctx, name, false, true)
			if err != nil {
				v.log.WithError(err).WithField("node", name).Warn("count what lies on this node alone")
				continue
			}
			files += means.OnlyFiles
		}
		v.risk.away, v.risk.files, v.risk.asked = key, files, time.Now()
	}
	return v.risk.files
}
