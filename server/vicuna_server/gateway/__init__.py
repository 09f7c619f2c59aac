"""One OpenAI-compatible address for all models of a cluster. Imports no torch.

cli                 flags;  service: starts everything, drains on SIGTERM
ports               middleware and settings of the two ports;  server, acceptor, connection: their connections
app                 routes: authentication, revocation, admission; routing finds the model; proxy forwards the request
keys, rates         hashed API keys, what each may use, how often                             pure
catalogue           models and their endpoints, found by the name in a request                pure
affinity            which endpoint requests of one beginning prefer                           pure
balancer            chooses the endpoint of the next request                                  pure
signing             the gateway's signature on requests to servers
key_pair            its key pairs and their rotation;  key_provisioning, signing_keys: make them in a cluster
request_head        which headers a server gets;  response_head: which parts of a response the client gets    pure
frames              server-sent events as whole frames                                        pure
objects             reads Kubernetes objects                                                  pure
api_server          requests to the API server;  reflector: list and watch;  cluster: what is watched
holding             keeps requests until a server of their model is ready
demand              counts requests under way and held; demand_record, demand_writer: state them in the cluster
accounting          tokens of every request, limits by tokens;  usage_writer, usage_store: write them to the cluster
replica_usage       usage of a replica;  day_usage: of a day;  slot: in an object;  quota, sliding_window: limits  pure
"""
