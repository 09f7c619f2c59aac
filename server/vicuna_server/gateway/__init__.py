"""One OpenAI-compatible address for all models of a cluster. Imports no torch.

cli          flags; starts everything, drains on SIGTERM
app          routes; gate: who may come in; routing: which model is meant; proxy: the way there and back
keys, rates  hashed keys, what each may use, how often                             pure
catalogue    models and their endpoints, found by the name in a request            pure
balancer     which endpoint takes the next request                                 pure
signing      the gateway's signature on what it sends to servers
key_pair     its keys, and how one follows the other;  key_keeper, signing_keys: made in a cluster by a command
frames       server-sent events as whole frames                                    pure
objects      Kubernetes objects to values                                          pure
api_server   requests to it;  reflector: list and watch;  cluster: what is watched
books        what every request used, limits by tokens;  bookkeeper, usage_store: written into the cluster
ledger       what is counted;  day_book: of one day;  slot: in one object;  claims, recent: limits     pure
"""
